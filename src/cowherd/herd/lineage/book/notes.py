"""What a command looked at, for later questions: the directories, and the dependents that were known."""

from __future__ import annotations

import contextlib
import contextvars

from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.paths import PathName


class Look(NamedTuple):
    """One look for the relatives of `images`, and what it has found."""

    lineage: Lineage
    images: tuple[Image, ...]

    @property
    def searched(self) -> list[str]:
        """The directories that were looked through."""
        return sorted(self.lineage.listed)

    @property
    def dependents(self) -> list[str]:
        """The overlays that were found to stand on the images."""
        return list(dict.fromkeys(hit.filename for image in self.images for hit in self.lineage.dependents(image)))

    @property
    def passed_over(self) -> tuple[str, ...]:
        """What was left out around the images, because it could not be looked at, or there was too much."""
        return self.lineage.passed_over


_looks: contextvars.ContextVar[list[Look] | None] = contextvars.ContextVar("looks", default=None)


@contextlib.contextmanager
def noting_looks() -> Iterator[list[Look]]:
    """Gives the block a list, to which every look is added that this thread takes while the block runs."""
    looks: list[Look] = []
    token = _looks.set(looks)
    try:
        yield looks
    finally:
        _looks.reset(token)


def note_look(lineage: Lineage, paths: Sequence[PathName]) -> None:
    """Notes what was looked at for the relatives of the images `paths`, if a block of `noting_looks` runs."""
    looks = _looks.get()
    if looks is not None:
        looks.append(Look(lineage, tuple(image for image in map(lineage.known, paths) if image)))
