"""The results of `flatten` and `retarget`, for their reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.sizes import human_size
from cowherd.text import shown

if TYPE_CHECKING:
    from cowherd.herd.overlays.rebasing import RebasedOverlay


def rebased_line(done: RebasedOverlay) -> str:
    """Returns a result as a line for people."""
    if not done.done:
        return f"{shown(done.overlay)}: up to {human_size(done.written_bytes)} to be copied; nothing was changed (--dry-run)"
    where = f"stands on {shown(done.base)}" if done.base else "stands alone"
    return f"{shown(done.overlay)}: {where}; {human_size(done.written_bytes)} written"
