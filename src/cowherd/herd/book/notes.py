"""What a command looked at, for who asks afterwards: the directories, and the dependents that were known."""

from __future__ import annotations

import contextlib
import contextvars
import os

from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.herd.lineage import Lineage


class Look(NamedTuple):
    """One look for the relatives of images: `searched` are directories, `dependents` what was found to stand on the images.

    `passed_over` is what was left out around them: it could not be looked at, or there was too much. `unseen` are places where
    overlays are known to lie, and nobody could look.
    """

    searched: tuple[str, ...]
    dependents: tuple[str, ...]
    passed_over: tuple[str, ...]
    unseen: tuple[str, ...]


_looks: contextvars.ContextVar[list[Look] | None] = contextvars.ContextVar("looks", default=None)


@contextlib.contextmanager
def noting_looks() -> Iterator[list[Look]]:
    """Gives a list to which every look is added that this thread takes while the block runs."""
    looks: list[Look] = []
    token = _looks.set(looks)
    try:
        yield looks
    finally:
        _looks.reset(token)


def note_look(lineage: Lineage, paths: Sequence[str | os.PathLike[str]]) -> None:
    """Notes what was looked at for the relatives of the images `paths`, if anybody wants to know."""
    looks = _looks.get()
    if looks is None:
        return
    images = [image for image in map(lineage.known, paths) if image]
    dependents = {hit.filename: None for image in images for hit in lineage.dependents(image)}
    unseen = tuple(one.place for one in lineage.unseen)
    looks.append(Look(tuple(sorted(lineage.listed)), tuple(dependents), lineage.passed_over, unseen))
