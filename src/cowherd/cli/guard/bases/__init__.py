"""The commands that keep bases whole."""
