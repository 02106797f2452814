"""Giving an overlay another backing file."""
