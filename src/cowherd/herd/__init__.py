"""Many images: what stands on what, what is sealed, and what may be done to any of them."""
