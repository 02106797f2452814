"""The internal snapshots of an image as disks: each has tables of its own, over the backing files that the image has now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.image.disk import Disk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.formats.layer import Layer
    from cowherd.formats.qcow2.snapshots import Snapshot


def snapshots_of(layer: Layer) -> tuple[Snapshot, ...]:
    """Returns the internal snapshots of an open image. Raises `ImageFormatError` if their table can't be read."""
    return layer.snapshots()


def snapshot_disk(layers: Sequence[Layer], snapshot: Snapshot) -> Disk:
    """Returns the disk that the first of `layers` shows when its `snapshot` is applied, over the other layers as they are.

    The caller keeps the layers: it does not close the disk, and does not use it longer than them. Its size is the snapshot's own.
    Raises `ImageFormatError` for a snapshot with broken tables.
    """
    return Disk([layers[0].at_snapshot(snapshot), *layers[1:]], writable=False)
