"""Daily work on overlays: making them, moving them, and putting them on another base."""
