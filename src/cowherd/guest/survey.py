"""What lies on a disk: its partitions and volumes, and the file system in each, read by whoever reads that kind.

A file system is recognised by its magic numbers. One that can't be read leaves its volume uncharted, with the reason.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

from cowherd import extents
from cowherd.guest.blocks import NO_RANGES, Chart, FileSystem, Uncharted, union_of
from cowherd.guest.partitions import PartitionTable, outside, read_partitions
from cowherd.guest.source import Cached, Malformed, Volume

Reader = Callable[[Volume], FileSystem]

LVM = "LVM"
_MAGICS = (  # offset, magic, name, "module:function" that reads it, the package that this needs
    (1080, b"\x53\xef", "ext", "cowherd.guest.ext:read_ext", ""),
    (3, b"NTFS    ", "NTFS", "cowherd.guest.ntfs:read_ntfs", "pytsk3"),
    (54, b"FAT", "FAT", "cowherd.guest.fat:read_fat", "pytsk3"),
    (82, b"FAT32", "FAT", "cowherd.guest.fat:read_fat", "pytsk3"),
    (0, b"XFSB", "XFS", "cowherd.guest.xfs:read_xfs", ""),
    (65600, b"_BHRfS_M", "btrfs", "cowherd.guest.btrfs:read_btrfs", ""),
    *((at + 24, b"LVM2 001", LVM, "", "") for at in range(0, 2048, 512)),
)
_SWAP = (b"SWAPSPACE2", 4086)


def survey(disk: Cached) -> Chart:
    """Looks through a whole disk. What can't be read is uncharted, whatever is wrong with it."""
    whole = Volume(disk, "the whole disk", [(0, disk.size)])
    if _recognised(whole):
        return _joined(_look_into_all(disk, [whole]))
    try:
        table = read_partitions(disk)
    except Malformed as error:
        return Chart((), NO_RANGES, (Uncharted(whole.place, whole.span, str(error)),))
    if table is None:
        return _joined([_look_into(whole)])
    parts = [Volume(disk, f"partition {part.number}", [(part.start, part.length)]) for part in table.partitions]
    return _joined([Chart((), table.own, tuple(_gaps(table, disk.size))), *_look_into_all(disk, parts)])


def _gaps(table: PartitionTable, size: int) -> Iterator[Uncharted]:
    """Yields what belongs to no partition: before the first one of an MBR disk a boot loader may lie, elsewhere nothing does."""
    around = outside(table, size)
    first = min((part.start for part in table.partitions), default=size) if table.kind == "MBR" else 0
    head = extents.intersect(around, extents.ranges([(0, first)]))
    yield Uncharted("before the first partition", head, "a boot loader may lie there")
    yield Uncharted("between the partitions", extents.subtract(around, head), "it belongs to no partition", idle=True)


def _joined(charts: list[Chart]) -> Chart:
    return Chart(
        tuple(system for chart in charts for system in chart.systems),
        union_of(chart.tables for chart in charts),
        tuple(part for chart in charts for part in chart.uncharted if len(part.span)),
    )


def _recognised(volume: Volume) -> tuple[str, str, str] | None:
    for offset, magic, name, reader, package in _MAGICS:
        if offset + len(magic) <= volume.size and volume.read(offset, len(magic)) == magic:
            return name, reader, package
    return None


def _look_into_all(disk: Cached, volumes: list[Volume]) -> list[Chart]:
    """Looks into volumes, and into the logical volumes that some of them are the physical volumes of."""
    members = [volume for volume in volumes if (_recognised(volume) or ("",))[0] == LVM]
    if not members:
        return [_look_into(volume) for volume in volumes]
    from cowherd.guest.lvm import read_volumes

    logical, around = read_volumes(disk, members)
    return [around, *(_look_into(volume) for volume in [*volumes, *logical] if volume not in members)]


def _look_into(volume: Volume) -> Chart:
    kind = _recognised(volume)
    if kind is None:
        return Chart((), NO_RANGES, (_unknown(volume),))
    name, reader, package = kind
    try:
        return Chart((_reader(reader, package)(volume),), NO_RANGES, ())
    except Malformed as error:
        reason = f"it holds {name} that can't be read: {error}"
    return Chart((), NO_RANGES, (Uncharted(volume.place, volume.span, reason),))


def _reader(name: str, package: str) -> Reader:
    if not name:
        raise Malformed("nothing here reads that yet")
    module, _, function = name.partition(":")
    try:
        found: Reader = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise Malformed(f"{package} is not installed, which reads that; cowherd[guest] brings it") from error
    return found


def _unknown(volume: Volume) -> Uncharted:
    magic, offset = _SWAP
    if volume.size >= 4096 and volume.read(offset, len(magic)) == magic:
        return Uncharted(volume.place, volume.span, "it is swap space", idle=True)
    return Uncharted(volume.place, volume.span, "it holds no file system that is known here")
