"""Small forms that several documents share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def time_text(moment: datetime) -> str:
    """Returns a time in UTC as the Image API writes it: ISO 8601 in whole seconds, with Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
