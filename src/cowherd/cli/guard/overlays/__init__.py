"""The commands that work with overlays."""
