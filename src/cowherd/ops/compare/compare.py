"""Tells whether two images show the same content; reads only bytes for which their tables leave this open.

The answers are those of `qemu-img compare`: they name the sector of a difference, and images of different size are the same if
the larger one ends in zeros. In strict mode the sizes must agree, and so must what QEMU calls the block status of each run of
bytes.
"""

from __future__ import annotations

from cowherd.image.reading import open_reading
from cowherd.ops.compare.comparison import Comparison
from cowherd.ops.compare.content import first_difference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.image.reading import Reading
    from cowherd.progress import Progress
    from cowherd.urls import ImageName


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
    with (
        open_reading(a, format=format_a, force_share=force_share) as first,
        open_reading(b, format=format_b, force_share=force_share) as second,
    ):
        return _compare(first, second, strict=strict, progress=progress)


def _compare(a: Reading, b: Reading, *, strict: bool, progress: Progress | None) -> Comparison:
    identical = Comparison(True, size_differs=a.size != b.size, smaller_size=min(a.size, b.size))
    if strict and a.size != b.size:
        return identical._replace(identical=False, reason="size")
    status = _first_status_mismatch(a, b) if strict else None
    # Bytes after a difference in status are not read: that difference comes first.
    content = first_difference(a, b, max(a.size, b.size) if status is None else status, progress)
    if content is not None:
        return identical._replace(identical=False, offset=content, reason="content")
    if status is not None:
        return identical._replace(identical=False, offset=status, reason="status")
    return identical


def _first_status_mismatch(a: Reading, b: Reading) -> int | None:
    from cowherd.ops.compare.status import first_status_mismatch

    return first_status_mismatch(a.disk(), b.disk())
