"""Strict inspection of an image from a stranger: named checks at bounded cost, and no other file is ever opened."""

from __future__ import annotations
