"""Undoing a change of a base, or keeping it from the overlays."""
