"""Checks of image files: headers, the marks that QEMU leaves, tables, and overlays that have copied most of their base."""

from __future__ import annotations

import os

from cowherd.errors import CowherdError
from cowherd.formats import registry
from cowherd.herd.doctor.finding import Finding, Kind
from cowherd.sizes import human_size
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.herd.doctor.examination import Examination
    from cowherd.herd.lineage.scan import Image
    from cowherd.image.disk import Disk

_MOST = 0.9  # of a base's data: an overlay that holds so much of its own hardly shares any
_SMALL = 1 << 20  # bytes: a smaller base is not worth a finding


def unreadable(exam: Examination) -> Iterator[Finding]:
    """Yields images whose header can't be trusted, and files that can't be read."""
    for image in exam.images:
        if image.problem:
            yield Finding(Kind.UNREADABLE, image.filename, f"{image.problem}; a copy of it may be all that helps")
    for path in exam.lineage.unreadable:
        yield Finding(
            Kind.UNREADABLE, os.fspath(path), "it could not be looked at: it may be an overlay; run as somebody who may read it"
        )


def marks(exam: Examination) -> Iterator[Finding]:
    """Yields images that are marked corrupt, or whose last writer has gone without closing them."""
    for image in exam.images:
        if not (image.corrupt or image.dirty):
            continue
        remedy = exam.command("qemu-img", "check", "-r", "all", image.filename, herd=False)
        if image.corrupt:
            yield Finding(Kind.CORRUPT, image.filename, "it is marked corrupt: nobody may write to it", remedy)
        elif image.dirty and image.key not in exam.written:
            yield Finding(Kind.DIRTY, image.filename, "its last writer did not close it; its refcounts may be wrong", remedy)


def tables(exam: Examination) -> Iterator[Finding]:
    """Yields, in a full examination, images whose tables contradict each other, or that hold clusters which nothing uses."""
    if not exam.full:
        return
    for image in exam.images:
        has_tables = registry.named(image.format).checked
        if has_tables and not image.problem and not image.corrupt and image.key not in exam.written:
            yield from _check_tables(exam, image)


def _check_tables(exam: Examination, image: Image) -> Iterator[Finding]:
    from cowherd.ops.check import check

    try:
        report = check(image.path, format=image.format)
    except CowherdError as error:
        yield Finding(Kind.UNREADABLE, image.filename, f"its tables can't be checked: {error}")
        return
    if report.corruptions:
        remedy = exam.command("qemu-img", "check", "-r", "all", image.filename, herd=False)
        yield Finding(Kind.DAMAGED_TABLES, image.filename, f"{report.corruptions} contradictions in its tables", remedy)
    elif report.leaks:
        remedy = exam.command("qemu-img", "check", "-r", "leaks", image.filename, herd=False)
        yield Finding(Kind.LEAKED, image.filename, f"{report.leaks} of its clusters are used by nothing", remedy)


def copied_bases(exam: Examination) -> Iterator[Finding]:
    """Yields overlays with their own copy of most of their base's data, so that sharing the base saves hardly anything."""
    for image, base in exam.lineage.overlays:
        if base.disk_size >= _SMALL and image.disk_size / _MOST >= base.disk_size and not exam.lineage.in_loop(image):
            yield from _check_copied(exam, image, base)


def _check_copied(exam: Examination, image: Image, base: Image) -> Iterator[Finding]:
    from cowherd.image.open import open_disk

    try:
        with open_disk(image.path, format=image.format, force_share=True) as disk:
            copied, held = _covered_bytes(disk)
    except CowherdError:
        return  # other checks report why it can't be opened
    if held and copied >= _MOST * held:
        detail = f"it holds its own copy of {human_size(copied)} of the {human_size(held)} in its base {printable(base.filename)}"
        yield Finding(Kind.COPIED_BASE, image.filename, detail, exam.command("cowherd", "flatten", image.filename))


def _covered_bytes(disk: Disk) -> tuple[int, int]:
    """Returns (bytes of the data below that the first layer covers, bytes of data in the layers below the first)."""
    import numpy as np

    from cowherd import extents
    from cowherd.image.disk import Disk

    parts = [np.empty((0, 2), np.int64)]
    below = Disk(disk.layers[1:], writable=False)
    for batch in below.extents(0, min(below.size, disk.size)):
        parts.append(extents.ranges_of(extents.of_kind(batch, extents.DATA, extents.COMPRESSED)))
    held, copied = extents.normalised(np.concatenate(parts)), 0
    for batch in disk.extents(depth=1):
        own = extents.ranges_of(batch[batch["kind"] != extents.BACKING])
        copied += extents.total(extents.intersect(held, own))
    return copied, extents.total(held)
