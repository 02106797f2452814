"""Images as families: what stands on one root, in the order in which a tree is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cowherd.service.records.image import Image

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DEEPEST_DRAWN = 12
"""How many levels of a tree have lines; of those below, the depth is told."""


class Row(NamedTuple):
    """An image in a tree. `open_lines` says for each image on the way down to it whether another one with its base follows."""

    image: Image
    depth: int
    open_lines: tuple[bool, ...]
    overlays: int
    """How many overlays are drawn below it."""


def families_of(images: Sequence[Image]) -> list[list[Row]]:
    """Returns the families of images by their `base`, in the order of each one's first image; overlays by their age.

    Each image is in one family, also where what is said of their bases goes in a circle.
    """
    known = {image.id: image for image in images}
    overlays: dict[str, list[Image]] = {}
    for image in sorted(images, key=lambda one: (one.created_at, one.id)):
        if image.base in known and image.base != image.id:
            overlays.setdefault(image.base or "", []).append(image)
    drawn: set[str] = set()
    return [list(_rows(_root(image, known), overlays, drawn)) for image in images if image.id not in drawn]


def _root(image: Image, known: Mapping[str, Image]) -> Image:
    """Returns what an image stands on in the end, as far as it is known."""
    passed = {image.id}
    while (base := known.get(image.base or "")) is not None and base.id not in passed:
        passed.add(base.id)
        image = base
    return image


def _rows(root: Image, overlays: Mapping[str, Sequence[Image]], drawn: set[str]) -> Iterable[Row]:
    pending: list[tuple[Image, int, tuple[bool, ...]]] = [(root, 0, ())]
    while pending:
        image, depth, lines = pending.pop()
        drawn.add(image.id)
        below = [one for one in overlays.get(image.id, ()) if one.id not in drawn]
        yield Row(image, depth, lines, len(below))
        deeper = depth < DEEPEST_DRAWN and (depth == 0 or bool(lines))
        pending += [(one, depth + 1, (*lines, one is not below[-1]) if deeper else ()) for one in reversed(below)]
