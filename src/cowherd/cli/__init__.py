"""What a person types and sees: argument parsing, tables, progress, JSON. No logic."""
