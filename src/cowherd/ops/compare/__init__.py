"""Comparing the content of two images."""
