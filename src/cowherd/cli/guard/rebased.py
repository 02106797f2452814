"""The results of `flatten` and `retarget`, for their reports."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cowherd.sizes import human_size
from cowherd.text import shown

if TYPE_CHECKING:
    from typing import Any

    from cowherd.herd.overlays.rebasing import RebasedOverlay


def rebased_document(done: RebasedOverlay) -> dict[str, Any]:
    """Returns a result as plain values."""
    return {
        "overlay": os.fspath(done.overlay),
        "base": os.fspath(done.base) if done.base else None,
        "read_bytes": done.read_bytes,
        "written_bytes": done.written_bytes,
        "done": done.done,
    }


def rebased_line(done: RebasedOverlay) -> str:
    """Returns a result as a line for people."""
    if not done.done:
        return f"{shown(done.overlay)}: up to {human_size(done.written_bytes)} to be copied; nothing was changed (--dry-run)"
    where = f"stands on {shown(done.base)}" if done.base else "stands alone"
    return f"{shown(done.overlay)}: {where}; {human_size(done.written_bytes)} written"
