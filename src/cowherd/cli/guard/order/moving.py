"""The reports of `move` and `rename`."""

from __future__ import annotations

from cowherd.cli.guard.output import Report
from cowherd.sizes import human_size
from cowherd.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.herd.overlays.move import Move


def move_report(plan: Move, *, done: bool) -> Report:
    """Returns a move, done or only planned, as a report."""
    document = plan.to_json() | {"done": done}
    return Report(document, tuple(_lines(plan, done)))


def _lines(plan: Move, done: bool) -> Iterator[str]:
    copied = f", {human_size(plan.copied_bytes)} to be copied" if plan.copied_bytes else ""
    yield f"{shown(plan.source)} {'is now' if done else 'would become'} {shown(plan.target)}{'' if done else copied}"
    for overlay in plan.overlays:
        yield f"  {shown(overlay.path)} {'names it there' if done else 'would be rewritten'}"
    if not done:
        yield "nothing was changed (--dry-run)"
