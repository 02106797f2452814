"""Imports and other work that goes on after the answer was given."""
