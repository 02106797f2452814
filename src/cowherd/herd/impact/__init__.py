"""Whom a change of a base hits, down to the file."""
