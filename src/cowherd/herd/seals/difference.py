"""How the content of one image differs from what its seal says."""

from __future__ import annotations

from cowherd.herd.records.sealfile import read_digests
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.extents import Ranges
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.herd.seals.held import Held


class Difference(NamedTuple):
    """How the content of an image differs from its seal: bytes of the disk then and now, and the bytes in blocks that differ.

    `changed` are these, as [start, end), None if there are none.
    """

    sealed_size: int
    size: int
    changed: Ranges | None = None

    @property
    def changed_bytes(self) -> int:
        """The number of bytes in `changed`."""
        if self.changed is None:
            return 0
        from cowherd.extents import total

        return total(self.changed)

    def describe(self) -> str:
        """Returns it in words."""
        grown = f"its size went from {self.sealed_size} to {self.size} bytes; " if self.size != self.sealed_size else ""
        return f"{grown}blocks with {self.changed_bytes} bytes differ from what was sealed"


def difference_of(image: Image, record: SealRecord, held: Held) -> Difference:
    """Returns how content that is held differs from what the seal of `image` says. Loads no arrays if it does not.

    Raises `ImageFormatError` for a damaged seal.
    """
    size = held.content.size
    if held.content.content_digest == record.content_digest:
        return Difference(size, size)
    from cowherd.herd.records.digest import differing, to_bytes

    _, sealed = read_digests(image.expected_seal)
    return Difference(sealed.size, size, to_bytes(differing(sealed, held.digests), max(sealed.size, size)))
