"""Whether two images show the same content, found by reading only what their tables leave open.

The answers are those of `qemu-img compare`: differences are told to the sector, and images of different size are the same if the
larger one ends in zeros. In strict mode the sizes must agree and so must what QEMU calls the block status of each run of bytes.
"""

from __future__ import annotations

from cowherd.ops.compare.comparison import Comparison

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from cowherd.progress import Progress
    from cowherd.urls import ImageName

    Reason: TypeAlias = Literal["content", "size", "status"]


def compare(
    a: ImageName,
    b: ImageName,
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
        from cowherd.ops.compare.tables import compare_tables

        compared = compare_tables(a, b, (format_a, format_b), force_share=force_share, progress=progress)
        if compared is not None and compared.identical:
            return Comparison(True, size_differs=compared.sizes[0] != compared.sizes[1], smaller_size=min(compared.sizes))
        begin = compared.equal_until if compared else 0
    from cowherd.image.open import open_disk
    from cowherd.ops.compare.disks import compare_disks

    with (
        open_disk(a, format=format_a, force_share=force_share) as first,
        open_disk(b, format=format_b, force_share=force_share) as second,
    ):
        return compare_disks(first, second, strict=strict, begin=begin, progress=progress)
