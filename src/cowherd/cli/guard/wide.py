"""The columns that a terminal needs for text in any script, which takes Python's tables of characters."""

from __future__ import annotations

import itertools
import re
from functools import lru_cache
from unicodedata import category, east_asian_width

_UNUSUAL = re.compile("[^\x20-\u02ff\u2500-\u257f]")  # these are a column each; the latter are what trees are drawn with
_EMOJI = "\ufe0f"  # makes the sign before it a picture, which is two columns wide


def columns_of(text: str) -> int:
    """Returns how many columns a terminal needs for a line of printable text, which is not painted."""
    if not _UNUSUAL.search(text):
        return len(text)
    widened = sum(_columns_of(sign) == 1 for sign, after in itertools.pairwise(text) if after == _EMOJI)
    return sum(map(_columns_of, text)) + widened


@lru_cache(maxsize=4096)
def _columns_of(character: str) -> int:
    if category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":  # the latter end a Korean syllable
        return 0
    return 2 if east_asian_width(character) in ("W", "F") else 1
