"""The directories of an XFS file system: which path leads to which inode. All directories of one depth are read together."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cowherd.guest.source import Malformed
from cowherd.guest.xfs.blocks import DIRECTORY, HASHED, wrong
from cowherd.guest.xfs.dirblocks import (
    FREE_AT,
    LEAF_AT,
    NO_BLOCK,
    Entry,
    Index,
    Parsed,
    free_room,
    index_of,
    parse_data,
    short_entries,
)
from cowherd.guest.xfs.forks import LOCAL, Mapped
from cowherd.guest.xfs.inodes import Inodes
from cowherd.guest.xfs.layout import Layout, Numbers, Rows

_BATCH = 4096
_TYPES = {1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFCHR, 4: stat.S_IFBLK, 5: stat.S_IFIFO, 6: stat.S_IFSOCK, 7: stat.S_IFLNK}


@dataclass
class Tree:
    """Paths in the order of directories, with their inodes; `references` counts the names of each inode, . and .. included.

    `dangling` maps each path whose inode can't be read to the reason.
    """

    paths: dict[str, int] = field(default_factory=dict)
    dangling: dict[str, str] = field(default_factory=dict)
    references: Counter[int] = field(default_factory=Counter)


@dataclass
class _Directory:
    path: str
    inode: int
    parent: int
    entries: list[Entry] = field(default_factory=list)
    unfound: set[bytes] = field(default_factory=set)


def read_tree(layout: Layout, inodes: Inodes) -> Tree:
    """Follows all directories from the root down."""
    return _Reader(layout, inodes).read()


class _Reader:
    def __init__(self, layout: Layout, inodes: Inodes):
        self._layout, self._inodes, self._tree = layout, inodes, Tree()
        self._seen: set[int] = set()
        self._left = layout.blocks * 2
        """Blocks of directories that may still be read. Each belongs to one directory, so that more than there are is a trap."""

    def read(self) -> Tree:
        root = self._layout.values["root"]
        self._inodes.find_strays(np.array([root], np.int64) if root < 1 << 62 else np.empty(0, np.int64))
        if root not in self._inodes.index or self._inodes.kind(root) != stat.S_IFDIR:
            self._layout.complaints.say("root", "there is no root directory")
            return self._tree
        level = [_Directory("", root, root)]
        self._seen.add(root)
        while level:
            following: list[_Directory] = []
            for batch in self._batches(level):
                self._fill(batch)
                wanted = np.array([inode for one in batch for _, inode, _ in one.entries if inode < 1 << 62], np.int64)
                self._inodes.find_strays(wanted)
                for directory in batch:
                    self._take(directory, following)
            level = following
        return self._tree

    def _say(self, directory: _Directory, text: str) -> None:
        self._layout.complaints.say("directory", f"{directory.path or '/'}: {text}")

    def _batches(self, level: list[_Directory]) -> Iterator[list[_Directory]]:
        """Yields the directories of a level in batches, each of few blocks or of one directory."""
        batch, size = [], 0
        for directory in level:
            row = self._inodes.index[directory.inode]
            size += int(self._inodes.table["blocks"][row]) + 1
            batch.append(directory)
            if size >= _BATCH:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _fill(self, batch: list[_Directory]) -> None:
        """Reads the entries of the directories of a batch."""
        large = []
        for directory in batch:
            problem = self._inodes.problems.get(directory.inode)
            if problem is not None:
                continue
            if self._inodes.table["format"][self._inodes.index[directory.inode]] != LOCAL:
                large.append(directory)
                continue
            try:
                parent, entries = short_entries(self._layout, self._inodes.local.get(directory.inode, b""))
            except Malformed as error:
                self._say(directory, str(error))
                continue
            directory.entries = [(b".", directory.inode, 2), (b"..", parent, 2), *entries]
        if large:
            self._fill_large(large)

    def _fill_large(self, batch: list[_Directory]) -> None:
        numbers = np.array([directory.inode for directory in batch], np.int64)
        owners, places, blocks = self._expanded(self._inodes.content.of(numbers))
        rows = _assembled(self._layout, blocks)
        bad = self._bad(rows, blocks[:, 0], owners, places)
        order = np.argsort(owners, kind="stable")
        edges = np.searchsorted(owners[order], np.column_stack((numbers, numbers + 1)))
        for directory, (low, high) in zip(batch, edges.tolist(), strict=True):
            chosen = order[low:high]
            for place in places[chosen][bad[chosen]].tolist():
                self._say(directory, f"block {place} of the directory is not what it must be")
            good = chosen[~bad[chosen]]
            held = {place: rows[row].tobytes() for row, place in zip(good.tolist(), places[good].tolist(), strict=True)}
            self._parse(directory, held)

    def _expanded(self, mapped: Mapped) -> tuple[Numbers, Numbers, NDArray[np.int64]]:
        """Returns for each block of a directory its inode, its number in the directory, and its blocks of the volume."""
        layout, each = self._layout, 1 << self._layout.directory_log
        written = mapped.written
        total = int(mapped.count[written].sum())
        self._left -= total
        if self._left < 0:
            raise Malformed("its directories have more blocks than there are")
        run = np.repeat(np.flatnonzero(written), mapped.count[written])
        within = np.arange(total) - np.repeat(np.cumsum(mapped.count[written]) - mapped.count[written], mapped.count[written])
        owners, places, blocks = mapped.inode[run], mapped.first[run] + within, mapped.block[run] + within
        if each == 1:
            return owners, places, blocks.reshape(-1, 1)
        # With naming blocks larger than a block (mkfs -n size), one consists of `each` blocks, which may lie apart.
        first = np.flatnonzero(places % each == 0)
        first = first[first + each <= total]
        group = first[:, None] + np.arange(each)
        whole = (places[group] == places[first][:, None] + np.arange(each)).all(axis=1)
        whole &= (owners[group] == owners[first][:, None]).all(axis=1)
        for inode in np.unique(owners[first[~whole]]).tolist():
            layout.complaints.say("directory", f"inode {inode}: a block of the directory is not whole")
        return owners[first[whole]], places[first[whole]], blocks[group[whole]]

    def _bad(self, rows: Rows, blocks: Numbers, owners: Numbers, places: Numbers) -> NDArray[np.bool_]:
        in_leaf = places * self._layout.block
        hashed = (in_leaf >= LEAF_AT) & (in_leaf < FREE_AT)
        found = np.zeros(len(rows), np.bool_)
        found[hashed] = wrong(self._layout, HASHED, rows[hashed], blocks[hashed], owners[hashed])
        found[~hashed] = wrong(self._layout, DIRECTORY, rows[~hashed], blocks[~hashed], owners[~hashed])
        return found

    def _parse(self, directory: _Directory, held: dict[int, bytes]) -> None:
        """Reads the entries in the blocks of one directory, and compares them with its indexes."""
        layout, each = self._layout, 1 << self._layout.directory_log
        leaf, free = LEAF_AT // layout.block, FREE_AT // layout.block
        data = {place // each: block for place, block in held.items() if place < leaf}
        hashed = {place: block for place, block in held.items() if leaf <= place < free}
        rooms = [block for place, block in sorted(held.items()) if place >= free]
        parsed, index = Parsed(), Index()
        size = int(self._inodes.table["size"][self._inodes.index[directory.inode]])
        single = size == layout.directory_block and not hashed
        for number, block in sorted(data.items()):
            before = len(parsed.entries), len(parsed.hashes)
            try:
                index.pairs += parse_data(layout, block, number, single, parsed) or []
            except Malformed as error:
                del parsed.entries[before[0] :], parsed.hashes[before[1] :]
                self._say(directory, str(error))
        directory.entries = parsed.entries
        if sorted(data)[-1:] != [size // layout.directory_block - 1]:
            self._say(directory, "its size is not that of its blocks")
        if not single:
            index = index_of(layout, hashed, leaf)
            self._compare_rooms(directory, parsed, index, rooms)
        self._compare_names(directory, parsed, index)
        if [name for name, _, _ in parsed.entries[:2]] != [b".", b".."]:
            self._say(directory, "the directory does not begin as one")

    def _compare_rooms(self, directory: _Directory, parsed: Parsed, index: Index, rooms: list[bytes]) -> None:
        try:
            told = {number: length for number, length in enumerate(index.rooms or []) if length != NO_BLOCK}
            told = free_room(self._layout, rooms) if index.rooms is None else told
        except Malformed as error:
            self._say(directory, str(error))
            return
        if told != parsed.largest:
            self._say(directory, "the index of the directory's free room does not fit its blocks")

    def _compare_names(self, directory: _Directory, parsed: Parsed, index: Index) -> None:
        """Compares the index with the entries. A name that the index lacks appears in a listing, but can't be opened."""
        if self._layout.lower_case:  # the hashes are made of lower-case names; which letters it treats as equal is not known here
            same = sorted(at for _, at in index.pairs) == sorted(at for _, at in parsed.hashes)
        else:
            same = sorted(index.pairs) == sorted(parsed.hashes)
            found = set() if same else set(index.pairs)
            pairs = [] if same else zip(parsed.entries, parsed.hashes, strict=True)
            directory.unfound = {entry[0] for entry, pair in pairs if pair not in found}
        if not same or not index.whole or [pair[0] for pair in index.pairs] != sorted(pair[0] for pair in index.pairs):
            self._say(directory, "the index of the directory's names does not fit its entries")

    def _take(self, directory: _Directory, following: list[_Directory]) -> None:
        """Adds the entries of a directory to the tree, and the directories among them to `following`, which is read next."""
        tree, inodes, say = self._tree, self._inodes, self._say
        for name, inode, kind in directory.entries:
            tree.references[inode] += 1
            if name in (b".", b".."):
                if inode != (directory.inode if name == b"." else directory.parent):
                    say(directory, f"{name.decode()} leads to inode {inode}")
                continue
            path = f"{directory.path}/{os.fsdecode(name)}"
            if name in directory.unfound:
                tree.dangling[path] = "the directory's index of names does not lead to it"
                continue
            if inode not in inodes.index:
                say(directory, f"{os.fsdecode(name)} leads to inode {inode}, which is not in use")
                tree.dangling[path] = "its inode is not in use"
                continue
            if path in tree.paths:
                say(directory, f"{os.fsdecode(name)} is there twice")
            tree.paths[path] = inode
            found = inodes.kind(inode)
            if self._layout.has_types and _TYPES.get(kind, 0) != found:
                say(directory, f"it and the inode of {os.fsdecode(name)} say different things of what that is")
            if found == stat.S_IFDIR and inode in self._seen:
                say(directory, f"{os.fsdecode(name)} is a directory that has another name")
            elif found == stat.S_IFDIR:
                self._seen.add(inode)
                following.append(_Directory(path, inode, directory.inode))


def _assembled(layout: Layout, blocks: NDArray[np.int64]) -> Rows:
    """Reads blocks of directories; `blocks` has a row for each, the blocks of the volume that make it up."""
    if blocks.shape[1] == 1:
        return layout.rows(blocks[:, 0])
    return layout.rows(blocks.reshape(-1)).reshape(len(blocks), layout.directory_block)
