"""The steps of a merge, as whoever carries it out has to offer them.

Each leaves every disk of the herd but the base as it reads, and each can be done again. Why nothing is lost, whenever a step is
cut short: until the overlay is given up, which is last, it holds all that it held, and so reads the same whatever the base shows
underneath; and before the base changes, its other overlays hold what they would lose.

`offline` carries them out on files that no machine has open. The steps are apart from `phases`, which decides on their order, so
that a machine that runs can carry them out as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import TypeAlias

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.merge.plan import MergePlan, Served
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.herd.seals.held import Held
    from cowherd.progress import Progress

    Left: TypeAlias = tuple[Path, str]
    """An image whose binding or seal is out of date afterwards, and why."""


class Steps(Protocol):
    """What a merge does to images. A chain is a sequence of images, the topmost first; the caller holds the locks of all."""

    def serve(self, served: Sequence[Served], below: Sequence[Image], progress: Progress | None) -> None:
        """Gives direct overlays of the first of `below`, the base, what they would lose, durably; they go on showing that.

        Of those that need nothing what they hold is made durable: a machine that was killed may have left it in memory.
        """

    def apply_down(self, plan: MergePlan, below: Sequence[Image], progress: Progress | None) -> None:
        """Writes what the images above hold into the first of `below`, which is the base or its copy, durably."""

    def verify(self, plan: MergePlan, below: Sequence[Image], served: Sequence[Served], progress: Progress | None) -> Held:
        """Reads again, as they are on the disk now, the first of `below`, which was written, and its direct overlays `served`.

        Raises `MergeFailed` where the one does not hold what was predicted, or others show other bytes than when it was planned.
        """

    def reseal(self, lineage: Lineage, base: Image, held: Held) -> SealRecord | None:
        """Makes the seal of the base, if it has one, say what it holds now; returns its record."""

    def bind(self, overlay: Image, record: SealRecord | None) -> list[Left]:
        """Binds an overlay of a sealed base to its content; returns why that could not be, if so."""

    def put_on(self, overlay: Image, base: Image, record: SealRecord | None) -> list[Left]:
        """Gives an overlay another base, whose content must be what the overlay shows below its own, and binds it to that."""

    def empty(self, overlay: Image) -> None:
        """Makes an overlay hold nothing, so that its base shows everywhere."""

    def delete(self, overlay: Image) -> None:
        """Deletes the file of an image under all its names, durably."""
