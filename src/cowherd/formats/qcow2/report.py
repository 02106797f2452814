"""What a check of an image's tables found."""

from __future__ import annotations

from cowherd.sizes import SECTOR
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cowherd.formats.qcow2.header import Header
    from cowherd.storage.blocks import BlockFile


class CheckReport(NamedTuple):
    """What a check found; the first three are numbers of problems, 0 in a sound image.

    `corruptions` endanger data, `leaks` waste space, `check_errors` are places that could not be checked. `image_end_offset` is
    in bytes; clusters are guest clusters, of which `fragmented_clusters` do not follow their predecessor in the file.
    `messages` are qemu-img's lines, the first ten thousand of them; `messages_cut` says whether there were more.
    """

    corruptions: int
    leaks: int
    check_errors: int
    image_end_offset: int
    total_clusters: int
    allocated_clusters: int
    fragmented_clusters: int
    compressed_clusters: int
    messages: tuple[str, ...]
    messages_cut: bool = False

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd-img check --output=json` prints them, but for name and format of the image; numbers
        that are 0 are left out."""
        numbers = {
            "image-end-offset": self.image_end_offset,
            "compressed-clusters": self.compressed_clusters,
            "total-clusters": self.total_clusters,
            "corruptions": self.corruptions,
            "check-errors": self.check_errors,
            "leaks": self.leaks,
            "allocated-clusters": self.allocated_clusters,
            "fragmented-clusters": self.fragmented_clusters,
        }
        return {key: value for key, value in numbers.items() if value or key == "check-errors"}


def total_clusters(header: Header) -> int:
    """Returns the number of guest clusters; QEMU counts whole sectors only."""
    return -(-(header.size // SECTOR * SECTOR) // header.cluster_size)


def file_length(file: BlockFile) -> int:
    """Returns the file's length as QEMU sees it, in whole sectors."""
    return -(-file.size() // SECTOR) * SECTOR
