"""Moves in what a Glance has: its records, its vocabulary and the content of its file stores. Nothing of Glance's is changed."""
