"""Copies the content of images into another image."""
