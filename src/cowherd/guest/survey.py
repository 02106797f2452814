"""What lies on a disk: its partitions and volumes, and the file system in each, read by the module for its kind.

Bytes can be read in more than one way: formatting leaves signatures of what was there before. The rules:

- A partition table is believed before a signature on the same bytes, then RAID, LUKS and LVM, which hold volumes, then a file
  system. This is the order in which the kernel, or libblkid, decides.
- Every other reading is charted beside the believed one, as a rival, and a note says so. The judge of a change takes the worst
  verdict of all readings.
- A volume that no module here can read is uncharted, with the reason. That counts as a reading: nothing in it is free.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cowherd import extents
from cowherd.distribution import how_to_install
from cowherd.guest import partitions, signatures
from cowherd.guest.chart import NO_RANGES, Chart, FileSystem, Marks, Uncharted, union_of
from cowherd.guest.partitions import MBR, PartitionTable, Tables, outside, read_tables
from cowherd.guest.raid import read_member
from cowherd.guest.signatures import LVM, RAID, SWAP, Seen, recognised
from cowherd.guest.source import Cached, Malformed, Volume

Reader = Callable[[Volume], FileSystem]

_WHOLE = "the whole disk"
_HOLDERS = (RAID, LVM)


@dataclasses.dataclass(frozen=True, eq=False)
class _Place:
    """A volume with all that it looks like. It is a `rival` if another reading of the same bytes is believed."""

    volume: Volume
    seen: tuple[Seen, ...]
    rival: bool = False

    @property
    def is_member(self) -> bool:
        return any(seen.signature.name == LVM for seen in self.seen)


def survey(disk: Cached) -> Chart:
    """Charts a whole disk, in every way that it can be read. What can't be read is uncharted, with the reason."""
    whole = Volume(disk, _WHOLE, [(0, disk.size)])
    tables = read_tables(disk)
    places = [place for number, table in enumerate(tables.found) for place in _partitions(disk, table, tables, number)]
    own = _on_whole(whole, tables, places)
    charts = [_tables_chart(whole, tables, own)]
    charts += [Chart((), NO_RANGES, (_nested(place.volume),)) for place in places if _has_table(place.volume)]
    for rival in (False, True):
        charts += _look_into_all(disk, [place for place in (*own, *places) if place.rival == rival])
    return _joined(charts)


def _partitions(disk: Cached, table: PartitionTable, tables: Tables, number: int) -> Iterator[_Place]:
    """Yields the partitions of a table: all of the believed one; of the others, those that it lacks and that have a signature."""
    believed = {(part.start, part.length) for part in tables.found[0].partitions}
    for part in table.partitions:
        if number and (part.start, part.length) in believed:
            continue
        name = f"partition {part.number}" + (f" by its {table.kind}, table {number + 1}" if number else "")
        volume = Volume(disk, name, [(part.start, part.length)])
        seen = tuple(recognised(volume))
        if seen or not number:
            yield _Place(volume, seen, rival=bool(number))


def _on_whole(whole: Volume, tables: Tables, places: Sequence[_Place]) -> list[_Place]:
    """Returns the whole disk as a volume, if it is one: it has no partition table, or has signatures beside the table."""
    seen = recognised(whole)
    if not tables.found:
        return [] if tables.damage and not seen else [_Place(whole, tuple(seen), rival=bool(tables.damage))]
    inner = {(one.signature.name, int(place.volume.span[0, 0]) + one.at) for place in places for one in place.seen}
    # A superblock near the end of the last partition lies near the end of the disk, too.
    seen = [one for one in seen if one.signature.name != SWAP and (one.signature.name, one.at) not in inner]
    return [_Place(whole, tuple(seen), rival=True)] if seen else []


def _tables_chart(whole: Volume, tables: Tables, own: Sequence[_Place]) -> Chart:
    """Charts the tables and what lies beside the partitions, and notes which readings there are."""
    uncharted, notes = [], [(_WHOLE, note) for note in tables.notes]
    if tables.damage:
        uncharted.append(Uncharted(_WHOLE, whole.span, tables.damage))
    for table in tables.found[:1]:
        uncharted += _gaps(table, whole.size)
        for problem in table.problems:
            if problem.length:
                span = extents.ranges([(problem.start, problem.start + problem.length)])
                uncharted.append(Uncharted(problem.place, span, problem.reason))
            else:
                notes.append((problem.place, problem.reason))
        for name in (one.signature.name for place in own for one in place.seen):
            text = (
                f"there is {name} beside a partition table ({table.kind}), which is believed; formatting may have left it behind"
            )
            notes.append((_WHOLE, text))
    marks = Marks(_WHOLE, whole.span, partitions.marks(whole.size))
    known = union_of(table.own for table in tables.found[:1])
    return Chart((), known, tuple(uncharted), tuple(notes), (marks,))


def _gaps(table: PartitionTable, size: int) -> Iterator[Uncharted]:
    """Yields the space that belongs to no partition. On an MBR disk, a boot loader may lie before the first one."""
    around = outside(table, size)
    # GRUB embeds itself there on MBR disks; on a GPT disk it has a partition of its own (BIOS boot).
    first = min((part.start for part in table.partitions), default=size) if table.kind == MBR else 0
    head = extents.intersect(around, extents.ranges([(0, first)]))
    yield Uncharted("before the first partition", head, "a boot loader may lie there")
    yield Uncharted("between the partitions", extents.subtract(around, head), "it belongs to no partition", idle=True)


def _has_table(volume: Volume) -> bool:
    """Returns whether a partition holds a partition table of its own, as a disk image in it would."""
    # A partition that begins at byte 0 of the disk would show the disk's own table.
    if not volume.size or not int(volume.span[0, 0]):
        return False
    tables = read_tables(volume)
    return bool(tables.damage or any(table.partitions for table in tables.found[:1]))


def _nested(volume: Volume) -> Uncharted:
    return Uncharted(volume.place, volume.span, "it holds a partition table of its own, which is not followed")


def _joined(charts: Sequence[Chart]) -> Chart:
    return Chart(
        tuple(system for chart in charts for system in chart.systems),
        union_of(chart.tables for chart in charts),
        tuple(part for chart in charts for part in chart.uncharted if len(part.span)),
        tuple(note for chart in charts for note in chart.notes),
        tuple(one for chart in charts for one in chart.marks),
    )


def _look_into_all(disk: Cached, places: Sequence[_Place]) -> list[Chart]:
    """Charts volumes, and the logical volumes that lie on those of them that are physical volumes."""
    members = [place for place in places if place.is_member]
    charts = [_look_into(place) for place in places]
    if not members:
        return charts
    from cowherd.guest.lvm import read_volumes

    logical, around = read_volumes(disk, [place.volume for place in members])
    charts.append(around)
    for volume in logical:
        charts.append(_look_into(_Place(volume, tuple(recognised(volume)), members[0].rival)))
        if _has_table(volume):
            charts.append(Chart((), NO_RANGES, (_nested(volume),)))
    return charts


def _look_into(place: _Place) -> Chart:
    """Charts a volume in each way that it can be read."""
    volume, names = place.volume, [seen.signature.name for seen in place.seen]
    marks = Marks(volume.place, volume.span, volume.on_disk(signatures.marks(volume.size)))
    charts = [Chart((), NO_RANGES, (), (), (marks,))]
    if not place.seen and not place.rival:
        charts.append(Chart((), NO_RANGES, (Uncharted(volume.place, volume.span, "it holds no file system that is known here"),)))
    for number, seen in enumerate(place.seen):
        named = Volume(volume.disk, f"{volume.place} as {seen.signature.name}", volume.pieces) if number else volume
        charts.append(_look_as(named, seen, rival=place.rival or number > 0))
    if len(names) > (2 if _is_mirror_in_place(place) else 1):
        charts.append(
            Chart((), NO_RANGES, (), ((volume.place, f"it looks like {' and like '.join(names)}; each is considered"),))
        )
    return _joined(charts)


def _look_as(volume: Volume, seen: Seen, *, rival: bool) -> Chart:
    """Charts a volume as one of its signatures says."""
    signature = seen.signature
    if signature.name == LVM:
        return Chart((), NO_RANGES, ())
    if signature.name == SWAP:
        return Chart((), NO_RANGES, (Uncharted(volume.place, volume.span, "it is swap space", idle=True),))
    if signature.name == RAID:
        return _look_into_member(volume, seen.at, rival=rival)
    if not signature.reader:
        return Chart((), NO_RANGES, (Uncharted(volume.place, volume.span, f"it holds {signature.name}, which is not read here"),))
    try:
        system = _reader(signature.reader, signature.package)(volume)
    except Malformed as error:
        reason = f"it holds {signature.name} that can't be read: {error}"
        return Chart((), NO_RANGES, (Uncharted(volume.place, volume.span, reason),))
    return Chart((dataclasses.replace(system, rival=rival),), NO_RANGES, ())


def _is_mirror_in_place(place: _Place) -> bool:
    """Returns whether a RAID's data begin where the volume does, so that they can be read without the superblock as well."""
    members = [read_member(place.volume, seen.at) for seen in place.seen if seen.signature.name == RAID]
    return any(member is not None and member.is_plain and not member.data[0] for member in members)


def _look_into_member(volume: Volume, at: int, *, rival: bool) -> Chart:
    """Charts a member of a RAID: a mirror is read as the volume that it holds, between the bounds that its superblock sets."""
    member = read_member(volume, at)
    assert member  # the signature was checked so
    if not member.is_plain:
        reason = f"it is a member of a Linux RAID of level {member.level}, which is not read here"
        return Chart((), NO_RANGES, (Uncharted(volume.place, volume.span, reason),))
    start, length = member.data
    inside = volume.on_disk(extents.ranges([(start, start + length)]))
    around = Uncharted(volume.place, extents.subtract(volume.span, inside), "the superblock of a Linux RAID lies there")
    if not start:
        return Chart((), NO_RANGES, (around,))  # what it holds begins where the volume does, and is recognised there
    _, _, starts, lengths = volume.placed(np.array([start]), np.array([length]))
    held = Volume(volume.disk, f"the RAID on {volume.place}", np.column_stack((starts, lengths)))
    found = recognised(held)
    charts = [Chart((), NO_RANGES, (around,))]
    charts.append(_look_into(_Place(held, tuple(one for one in found if one.signature.name not in _HOLDERS), rival)))
    if any(one.signature.name in _HOLDERS for one in found):
        charts.append(
            Chart((), NO_RANGES, (Uncharted(held.place, held.span, "it holds volumes, which are not read inside of it"),))
        )
    if _has_table(held):
        charts.append(Chart((), NO_RANGES, (_nested(held),)))
    return _joined(charts)


def _reader(name: str, package: str) -> Reader:
    module, _, function = name.partition(":")
    try:
        found: Reader = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise Malformed(f"{package} is not installed, which reads that: {how_to_install('guest')}") from error
    return found
