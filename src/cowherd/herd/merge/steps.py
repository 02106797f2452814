"""The steps of a merge, as anything that carries one out must offer them.

After each step every disk of the herd but the base reads as before, and each step can be done again. Nothing is lost, whenever a
step is cut short: until the overlay is given up, which is last, it holds all that it held, and so reads the same whatever the
base shows underneath; and before the base changes, its other overlays hold what they would lose.

`offline` carries the steps out on files that no machine has open. They are separate from `phases`, which decides their order, so
that a running machine can carry them out as well.
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
        """Writes into the direct overlays of the first of `below`, the base, what they would lose, durably; they still show that.

        Overlays that need nothing are made durable as they are: a machine that was killed may have left their content in memory.
        """

    def apply_down(self, plan: MergePlan, below: Sequence[Image], progress: Progress | None) -> None:
        """Writes what the images above hold into the first of `below`, which is the base or its copy, durably."""

    def verify(self, plan: MergePlan, below: Sequence[Image], served: Sequence[Served], progress: Progress | None) -> Held:
        """Reads the first of `below`, which was written to, and its direct overlays `served` again, as they are on the disk now.

        Raises `MergeFailed` if the first does not hold what was predicted, or an overlay shows other bytes than at planning.
        """

    def reseal(self, lineage: Lineage, base: Image, held: Held) -> SealRecord | None:
        """Makes the seal of the base, if it has one, say what it holds now; returns its record."""

    def bind(self, overlay: Image, record: SealRecord | None) -> list[Left]:
        """Binds an overlay of a sealed base to its content; returns the reason if that could not be."""

    def put_on(self, overlay: Image, base: Image, record: SealRecord | None) -> list[Left]:
        """Gives an overlay another base, which must hold what the overlay shows below its own data, and binds it to that base."""

    def empty(self, overlay: Image) -> None:
        """Makes an overlay hold nothing, so that its base shows everywhere."""

    def delete(self, overlay: Image) -> None:
        """Deletes the file of an image under all its names, durably."""
