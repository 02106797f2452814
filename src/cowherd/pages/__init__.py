"""What all HTML pages are made of: their escaping, their look, and what a browser may do with them."""
