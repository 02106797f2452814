"""Gives an overlay another backing file."""
