"""Bindings as evidence, and the refusal to overwrite it: one rule for every command.

An overlay that was made on other content than its base holds stays bound to that content until a user decides (`--rebind`). A
command that would accept what the overlay shows now as right, or bind it again on the way, calls this module first.
"""

from __future__ import annotations

from cowherd.herd.records.faults import BindingContradicted
from cowherd.herd.seals.quick_check import Conditions, record_of, record_or_none

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.progress import Progress
    from cowherd.storage.holding import Holding


def require_uncontradicted(
    lineage: Lineage,
    images: Iterable[Image],
    action: str,
    *,
    held: Holding | None = None,
    progress: Progress | None = None,
) -> None:
    """Raises `BindingContradicted` if one of `images`, or an overlay in its chain, was made on other content than its base holds.

    `action` words the error, as in "flatten". The content of a base comes from its seal if that holds; else the base is read.
    With `held` what is read is held there. Raises as `cowherd.herd.seals.held.held_content`.
    """
    fits: set[tuple[object, bytes]] = set()
    conditions = Conditions(lineage, record_of)
    for overlay, base, content in _bound(lineage, images):
        if (base.key, content) not in fits and not _holds(lineage, conditions, base, content, held, progress):
            raise BindingContradicted(overlay.path, base.path, action)
        fits.add((base.key, content))


def contradicted(lineage: Lineage, base: Image, content: bytes) -> list[Image]:
    """Returns the direct overlays of `base` whose binding names other content than `content`."""
    return [child for child in lineage.children(base) if child.binding and child.binding.content_digest != content]


def _bound(lineage: Lineage, images: Iterable[Image]) -> Iterator[tuple[Image, Image, bytes]]:
    """Yields the overlays with a binding in the chains of `images`, each once, as (overlay, base, bound content digest)."""
    seen = set()
    for image in images:
        for overlay in lineage.chain(image):
            base = lineage.parent(overlay)
            if base and overlay.binding and overlay.key not in seen and not lineage.in_loop(overlay):
                yield overlay, base, overlay.binding.content_digest
            seen.add(overlay.key)


def _holds(
    lineage: Lineage, conditions: Conditions, base: Image, content: bytes, held: Holding | None, progress: Progress | None
) -> bool:
    record = record_or_none(base)
    if record and conditions.of(base).status.holds:
        return record.content_digest == content
    from cowherd.herd.seals.held import held_content

    with held_content(lineage, base, progress, held) as found:
        return found.content.content_digest == content
