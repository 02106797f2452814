"""The commands that put in order."""
