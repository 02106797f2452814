"""The command that gives images out."""
