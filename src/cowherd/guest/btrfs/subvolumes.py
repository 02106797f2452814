"""The files of a btrfs: every path in every subvolume and snapshot, under the path of its subvolume."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cowherd.extents import Ranges, ranges, union
from cowherd.guest.btrfs.content import Content
from cowherd.guest.btrfs.items import (
    DIR_ITEM,
    EXTENT_DATA,
    FIRST_INODE,
    INLINE,
    INODE_ITEM,
    PREALLOCATED,
    ROOT_ITEM,
    Extent,
    Inode,
    Name,
    RootItem,
    extent_of,
    inode_of,
    names_of,
)
from cowherd.guest.btrfs.nodes import LAST, Tree, Trees
from cowherd.guest.chart import DIRECTORY, FILE, NO_RANGES, NO_RUNS, OTHER, SYMLINK, FileEntry
from cowherd.guest.source import Malformed

TOP = 5
MOST_PATHS = 1_000_000
_MOST_NAMED = 20
_KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK}


@dataclass
class Listing:
    """All paths found. `read` are the logical addresses from which any file's content is read.

    `left_out` names the subvolumes that were not listed because there were too many paths.
    """

    files: dict[str, FileEntry] = field(default_factory=dict)
    read: Ranges = field(default_factory=lambda: NO_RANGES)
    contradictions: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)


@dataclass
class _Subvolume:
    """The items in one subvolume's tree, by the number of their inode; `damaged` says why an inode's items can't be used."""

    tree: Tree
    inodes: dict[int, Inode] = field(default_factory=dict)
    names: dict[int, list[Name]] = field(default_factory=lambda: defaultdict(list))
    extents: dict[int, list[Extent]] = field(default_factory=lambda: defaultdict(list))
    damaged: dict[int, str] = field(default_factory=dict)

    def problem(self, number: int, low: int, high: int) -> str | None:
        """Returns why an inode's items of the types from `low` to `high` can't be read, None if they can."""
        gap = self.tree.gap_in((number, low, 0), (number, high, LAST[2]))
        return f"a block of its tree can't be read: {gap.problem}" if gap else self.damaged.get(number)


class Lister:
    """Lists the paths of a file system, subvolume by subvolume, from the top one down."""

    def __init__(
        self,
        trees: Trees,
        roots: dict[int, RootItem],
        places: dict[tuple[int, int], tuple[int, bytes]],
        content: Content,
        expected: int,
    ):
        """`places` has the (directory, name) of each subvolume, by (its parent's number, its own).

        `expected` is the number of blocks of all trees, for reports of progress.
        """
        self._trees, self._roots, self._places, self._content = trees, roots, places, content
        self._found = Listing()
        self._read: list[tuple[int, int]] = []
        self._expected, self._visited = expected * max(1, len(roots)), 0

    def listed(self) -> Listing:
        """Returns the listing of all subvolumes that can be reached from the top one."""
        found, pending, seen = self._found, [("", TOP)], {TOP}
        while pending:
            prefix, number = pending.pop()
            if len(found.files) >= MOST_PATHS:
                found.left_out.append(prefix)
                continue
            for path, child in self._subvolume(prefix, self._roots[number]):
                if child in seen:
                    found.contradictions.append(f"{path}: a subvolume that has another name")
                else:
                    seen.add(child)
                    pending.append((path, child))
        found.read = union(found.read, ranges(self._read))
        return found

    def _subvolume(self, prefix: str, item: RootItem) -> Iterator[tuple[str, int]]:
        """Lists one subvolume; yields the path and number of each subvolume in it."""
        subvolume = self._parsed(item)
        self._found.trees.append(subvolume.tree)
        entries: dict[int, FileEntry] = {}
        links: Counter[int] = Counter()
        pending, seen = [(prefix, item.directory)], {item.directory}
        while pending:
            path, directory = pending.pop()
            for name in subvolume.names[directory]:
                full = f"{path}/{os.fsdecode(name.name)}"
                if name.type == ROOT_ITEM:
                    self._found.files[full] = FileEntry(DIRECTORY, 0, NO_RUNS)
                    if self._is_there(item.root.tree, name, directory):
                        yield full, name.object
                    continue
                links[name.object] += 1
                if name.object not in entries:
                    entries[name.object] = self._entry(subvolume, name.object)
                entry = self._found.files[full] = entries[name.object]
                if name.object not in subvolume.inodes and not subvolume.problem(name.object, INODE_ITEM, INODE_ITEM):
                    self._complain(f"{full}: leads to inode {name.object}, which is not there")
                if entry.kind == DIRECTORY and name.object not in seen:
                    seen.add(name.object)
                    pending.append((full, name.object))
        self._count(prefix, subvolume, links)

    def _is_there(self, parent: int, name: Name, directory: int) -> bool:
        """Returns whether a name leads to a subvolume.

        A snapshot keeps the names of its origin's subvolumes, but the subvolumes stay in the origin: the kernel shows an empty
        directory for such a name.
        """
        place = self._places.get((parent, name.object))
        return place == (directory, name.name) and name.object in self._roots

    def _parsed(self, item: RootItem) -> _Subvolume:
        found = _Subvolume(Tree(item.root))
        for leaf in self._trees.walk(found.tree):
            self._visited += 1
            self._content.layout.volume.disk.report(self._visited, self._expected)
            for number, kind, offset, body in leaf.of_types(INODE_ITEM, DIR_ITEM, EXTENT_DATA):
                try:
                    if kind == INODE_ITEM:
                        found.inodes[number] = inode_of(body)
                    elif kind == DIR_ITEM:
                        found.names[number] += names_of(body)
                    elif number >= FIRST_INODE:
                        found.extents[number].append(extent_of(offset, body))
                except Malformed as error:
                    found.damaged[number] = str(error)
        return found

    def _complain(self, problem: str) -> None:
        if len(self._found.contradictions) < _MOST_NAMED:
            self._found.contradictions.append(problem)

    def _count(self, prefix: str, subvolume: _Subvolume, links: Counter[int]) -> None:
        for number, inode in subvolume.inodes.items():
            # An inode without a name may be an orphan, which the guest had open when it stopped.
            if links[number] not in (0, inode.links) and not subvolume.tree.gaps:
                self._complain(f"{prefix or '/'}: inode {number} counts {inode.links} names, {links[number]} lead to it")

    def _entry(self, subvolume: _Subvolume, number: int) -> FileEntry:
        inode = subvolume.inodes.get(number)
        if inode is None:
            problem = subvolume.problem(number, INODE_ITEM, INODE_ITEM)
            return FileEntry(OTHER, 0, NO_RUNS, problem=problem or "its inode is not there")
        kind = _KINDS.get(stat.S_IFMT(inode.mode), OTHER)
        if kind == DIRECTORY:
            return FileEntry(kind, 0, NO_RUNS)
        if kind == OTHER:
            return FileEntry(kind, 0, NO_RUNS, hashlib.sha256(f"{stat.S_IFMT(inode.mode)} {inode.device}".encode()).hexdigest())
        problem = subvolume.problem(number, EXTENT_DATA, EXTENT_DATA)
        return _Reading(self._content, inode, kind, self._read).entry(subvolume.extents.get(number, []), problem)


class _Reading:
    """Puts the extents of one file together."""

    def __init__(self, content: Content, inode: Inode, kind: str, read: list[tuple[int, int]]):
        self._content, self._inode, self._kind, self._all_read = content, inode, kind, read
        self._runs: list[tuple[int, int, int]] = []
        self._digest = hashlib.sha256()
        self._problem: str | None = None

    def entry(self, found: list[Extent], problem: str | None) -> FileEntry:
        size, self._problem = self._inode.size, problem
        shown = [one for one in found if one.start < size and one.kind != PREALLOCATED and (one.address or one.kind == INLINE)]
        # The bytes on the disk of a file with compressed parts do not lie at its own offsets: they are counted one after the
        # other, and a digest stands for the content.
        packed = any(one.kind == INLINE or one.compression for one in shown)
        at_disk, packed_size = 0, 1 << 62
        for one in shown:
            try:
                if one.kind != INLINE:
                    at_disk = self._blocks(one, at_disk if packed else one.start)
                if packed:
                    self._describe(one)
            except Malformed as error:
                self._problem = self._problem or str(error)
        volume = self._content.layout.volume
        runs = np.array(volume.runs_on_disk(self._runs, packed_size if packed else size), np.int64).reshape(-1, 3)
        return FileEntry(self._kind, size, runs, self._digest.hexdigest() if packed else None, self._problem)

    def _blocks(self, one: Extent, at: int) -> int:
        """Adds the runs from which an extent is read, the first at byte `at` of the file; returns the byte where they end."""
        sector = self._content.layout.sector
        start, length = (one.address, one.disk_length) if one.compression else (one.address + one.offset, one.length)
        if start % sector or length % sector:
            raise Malformed("an extent of it is not in whole sectors")
        # A checksum covers a whole sector: the kernel can't read a file's last bytes without those behind its end.
        if not self._inode.summed:
            length = min(length, max(0, self._inode.size - one.start))
        elif not one.compression:
            length = min(length, -(-(self._inode.size - one.start) // sector) * sector)
        self._runs += [(at + skipped, place, size) for skipped, place, size in self._content.places(start, length)]
        self._all_read.append((start, start + length))
        if self._inode.summed and not self._content.is_sound(start, start + length):
            self._problem = self._problem or "the checksum of some of its content is wrong or can't be read"
        return at + length

    def _describe(self, one: Extent) -> None:
        """Adds an extent to the digest of a file that is not plain bytes. Its checksums stand for the bytes, which are not read.

        Without checksums, the place and the generation stand for them: a new content is written to a new place, or later.
        """
        start, length = (one.address, one.disk_length) if one.compression else (one.address + one.offset, one.length)
        sums = self._content.sums(start, length) if self._inode.summed else f"{start} {one.generation}".encode()
        shape = (
            one.start,
            one.kind,
            one.compression,
            one.length,
            one.offset if one.compression else 0,
            len(sums),
            len(one.inline),
        )
        self._digest.update(f"{shape}".encode() + sums + one.inline)
