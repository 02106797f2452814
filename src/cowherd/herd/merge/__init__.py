"""Merging an overlay into its base without breaking its siblings, and taking up a merge that was interrupted."""
