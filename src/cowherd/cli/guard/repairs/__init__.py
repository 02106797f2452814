"""The commands that put right."""
