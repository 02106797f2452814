"""Whether two images show the same content, found by reading only what their tables leave open.

The answers are those of `qemu-img compare`: differences are told to the sector, and images of different size are the same if the
larger one ends in zeros. In strict mode the sizes must agree and so must what QEMU calls the block status of each run of bytes.
"""

from __future__ import annotations

import os

from cowherd.errors import CowherdError
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from cowherd.ops.copying import Progress

    Reason: TypeAlias = Literal["content", "size", "status"]


class Comparison(NamedTuple):
    """What a comparison found. `offset` is a guest byte.

    `reason` is None for identical images; "content" at `offset`, a multiple of 512; "size" (strict mode only, without an
    offset); or "status" at `offset` (strict mode only). `size_differs` says whether the sizes are different: outside of strict
    mode a difference at or after the smaller size, or none, is found with that in mind.
    """

    identical: bool
    offset: int | None = None
    reason: Reason | None = None
    size_differs: bool = False
    smaller_size: int = 0

    @property
    def passed_smaller_end(self) -> bool:
        """Whether all that both images have was found to be equal, and their sizes differ."""
        return self.size_differs and self.reason != "size" and (self.offset is None or self.offset >= self.smaller_size)


class ReadFailed(CowherdError):
    """One of the images could not be read. Attributes: `path`, `offset` (a guest byte), `error`, the reason."""

    def __init__(self, path: str | os.PathLike[str], offset: int, error: CowherdError):
        self.path, self.offset, self.error = os.fspath(path), offset, error

    def __str__(self) -> str:
        return f"Error while reading offset {self.offset} of {self.path}: {self.error}"


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    format_a: str | None = None,
    format_b: str | None = None,
    strict: bool = False,
    force_share: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Compares what the guest would see of two images, backing files included.

    A format of None is guessed from the first bytes. Raises what opening an image raises, and `ReadFailed`.
    """
    begin = 0
    if not strict:
        from cowherd.ops.equality import settle

        settled = settle(a, b, (format_a, format_b), force_share=force_share, progress=progress)
        if settled is not None and settled.identical:
            return Comparison(True, size_differs=settled.sizes[0] != settled.sizes[1], smaller_size=min(settled.sizes))
        begin = settled.equal_until if settled else 0
    from cowherd.image.open import open_disk
    from cowherd.ops.comparing import compare_disks

    with (
        open_disk(a, format=format_a, force_share=force_share) as first,
        open_disk(b, format=format_b, force_share=force_share) as second,
    ):
        return compare_disks(first, second, strict=strict, begin=begin, progress=progress)
