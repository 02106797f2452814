"""Pictures of a herd."""
