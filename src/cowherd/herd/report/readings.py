"""What earlier looks at a herd have read of its content, so that the next one need not read it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cowherd.errors import CowherdError
from cowherd.storage.identity import FileIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.herd.seals.difference import Difference


class State(NamedTuple):
    """A sealed image at one moment: the content digest of its seal, and the identities of the files of its chain."""

    sealed: bytes
    files: tuple[FileIdentity, ...]


class Readings:
    """How images that were read differ from their seals, each with its state from before it was read.

    An image that was written to meanwhile has another state, so that its reading is not taken for one of what it holds now.
    """

    def __init__(self) -> None:
        self._read: dict[Key, tuple[State, Difference]] = {}

    def states(self, lineage: Lineage) -> dict[Key, State]:
        """Returns the present states of the sealed images of a herd; none of an image whose seal or files can't be looked at."""
        sealed = [image for image in lineage.images.values() if lineage.seal(image)]
        return {image.key: state for image in sealed if (state := _state(lineage, image))}

    def known(self, states: Mapping[Key, State]) -> dict[Key, Difference]:
        """Returns how the images that are in the state in which they were read differ from their seals."""
        return {key: found for key, (state, found) in self._read.items() if states.get(key) == state}

    def note(self, states: Mapping[Key, State], differences: Mapping[Key, Difference]) -> None:
        """Takes in place of what it knew `differences`, which were read after `states` was found."""
        self._read = {key: (states[key], found) for key, found in differences.items() if key in states}


def _state(lineage: Lineage, image: Image) -> State | None:
    try:
        record = lineage.record_of(image)
        files = tuple(FileIdentity.of(one.filename) for one in lineage.chain(image))
    except CowherdError:  # whoever reads the image reports that
        return None
    return State(record.content_digest, files) if record else None
