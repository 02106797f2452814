"""LVM2: volume groups whose physical volumes are partitions of one disk, and the logical volumes in them.

Linear and striped volumes are read, because they lie plainly on the disk. If a snapshot, thin pool, cache, mirror or the like
comes between a volume and the disk, the volume's extents are uncharted, with that as the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.chart import Chart, Uncharted, union_of
from cowherd.guest.lvm.logical import read_logical
from cowherd.guest.lvm.physical import Group, Physical, read_physical
from cowherd.guest.lvm.text import number_of, sections_of, text_of
from cowherd.guest.source import Cached, Malformed, Volume


@dataclass
class _Found:
    """The results so far. `volumes` are the logical volumes that can be read."""

    volumes: list[Volume] = field(default_factory=list)
    tables: list[Ranges] = field(default_factory=list)
    uncharted: list[Uncharted] = field(default_factory=list)

    def idle(self, place: str, span: Ranges, reason: str) -> None:
        self.uncharted.append(Uncharted(place, span, reason, idle=True))


def read_volumes(disk: Cached, members: Sequence[Volume]) -> tuple[list[Volume], Chart]:
    """Returns the logical volumes on `members`, the physical volumes of one disk, and the chart of all that lies beside them."""
    found = _Found()
    physical = []
    for member in members:
        try:
            physical.append(read_physical(member))
        except Malformed as error:
            found.uncharted.append(Uncharted(member.place, member.span, str(error)))
    groups = _newest(physical)
    for group in groups:
        held = _of_group(group, physical)
        try:
            # LVM itself refuses to work by a name that two groups share; which one the guest uses can't be told.
            if sum(other.name == group.name for other in groups) > 1:
                raise Malformed(f"there are two LVM volume groups called {group.name}")
            _add_group(disk, group, held, found)
        except Malformed as error:
            found.uncharted += [Uncharted(one.volume.place, one.volume.span, str(error)) for one in held]
    known = {id(one) for group in groups for one in _of_group(group, physical)}
    for one in physical:
        if id(one) not in known:
            _add_without_group(one, found)
    return found.volumes, Chart((), union_of(found.tables), tuple(found.uncharted))


def _newest(physical: Sequence[Physical]) -> list[Group]:
    """Returns the newest metadata of each volume group, which are those that LVM uses: each change raises `seqno`."""
    groups: dict[str, Group] = {}
    for group in (group for one in physical for group in one.groups):
        if group.identity not in groups or groups[group.identity].sequence < group.sequence:
            groups[group.identity] = group
    return list(groups.values())


def _identities(group: Group) -> dict[str, str]:
    """Returns the names that a group gives its physical volumes, by their identity."""
    # The text writes an identity with dashes, the header of a physical volume without.
    volumes = sections_of(group.section, "physical_volumes")
    return {text_of(section, "id").replace("-", ""): name for name, section in volumes.items()}


def _of_group(group: Group, physical: Sequence[Physical]) -> list[Physical]:
    try:
        named = _identities(group)
    except Malformed:
        named = {}
    return [one for one in physical if one.identity in named or group.identity in {held.identity for held in one.groups}]


def _add_without_group(one: Physical, found: _Found) -> None:
    volume = one.volume
    if not one.has_areas:
        reason = "it is part of an LVM volume group whose metadata lie on another disk"
        found.uncharted.append(Uncharted(volume.place, volume.span, reason))
        return
    found.tables.append(volume.on_disk(one.own))
    rest = extents.subtract(volume.span, volume.on_disk(one.own))
    found.idle(volume.place, rest, "it is an LVM physical volume that no volume group uses")


def _add_group(disk: Cached, group: Group, held: Sequence[Physical], found: _Found) -> None:
    extent = number_of(group.section, "extent_size", 1) * 512  # the text counts sectors, like pe_start and stripe_size
    areas = _data_areas(group, held, extent)
    logical = read_logical(group, areas, extent)
    taken = union_of(one.span for one in logical)
    for one in logical:
        place = f"logical volume {group.name}/{one.name}"
        if one.reason:
            found.uncharted.append(Uncharted(place, one.span, one.reason))
        else:
            found.volumes.append(Volume(disk, place, one.pieces))
    for physical in held:
        found.tables.append(physical.volume.on_disk(physical.own))
        boot = extents.subtract(physical.volume.on_disk(physical.boot), taken)
        found.uncharted.append(Uncharted(physical.volume.place, boot, "a boot loader may lie there"))
        rest = extents.subtract(physical.volume.span, union_of([taken, boot, physical.volume.on_disk(physical.own)]))
        found.idle(physical.volume.place, rest, "it belongs to no logical volume")


def _data_areas(group: Group, held: Sequence[Physical], extent: int) -> dict[str, tuple[int, int] | None]:
    """Returns (guest byte of the first extent, number of extents) of each physical volume, by the name that the group gives it.

    A physical volume on another disk has None. Raises `Malformed` if the metadata contradict the physical volumes.
    """
    found: dict[str, tuple[int, int] | None] = {}
    sections = sections_of(group.section, "physical_volumes")
    for identity, name in _identities(group).items():
        matching = [one for one in held if one.identity == identity]
        if len(matching) > 1:
            raise Malformed("two LVM physical volumes have the same identity")
        found[name] = None
        for one in matching:
            start, count = number_of(sections[name], "pe_start") * 512, number_of(sections[name], "pe_count")
            if start + count * extent > one.volume.size:
                raise Malformed("its LVM volume group says that it is larger than it is")
            if len(extents.intersect(one.own, extents.ranges([(start, start + count * extent)]))):
                raise Malformed("its LVM volume group has extents where its metadata lie")
            found[name] = int(one.volume.span[0, 0]) + start, count
    unknown = [one for one in held if one.identity not in _identities(group)]
    if unknown:
        raise Malformed("its LVM volume group does not know all of its physical volumes")
    return found
