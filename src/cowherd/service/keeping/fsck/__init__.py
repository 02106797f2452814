"""The check of the records against the stores, and back."""
