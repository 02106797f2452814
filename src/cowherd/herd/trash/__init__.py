"""Deleting images so that they can come back, and removing what nobody needs."""
