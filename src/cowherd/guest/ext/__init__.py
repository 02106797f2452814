"""ext2, ext3 and ext4, read by code of our own.

The libraries that list such a file system's files don't show its bitmaps, inode tables and checksums. Once those are read, the
directories are a page more, and all parts can be checked against each other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import stat

import numpy as np

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.chart import DIRECTORY, FILE, NO_RANGES, NO_RUNS, OTHER, SYMLINK, FileEntry, FileSystem, union_of
from cowherd.guest.ext.check import contradictions, owned_by
from cowherd.guest.ext.inodes import EA_INODE_FLAG, Inode, Table, journal_of, read_inodes
from cowherd.guest.ext.journal import Replay, Replayed, replay
from cowherd.guest.ext.layout import HAS_JOURNAL, JOURNAL_INODE, Layout
from cowherd.guest.ext.tree import read_tree
from cowherd.guest.source import Volume

_STEP = 1 << 20
_MOST_NAMED = 20
_KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK}


def read_ext(volume: Volume) -> FileSystem:
    """Reads the file system in a volume. Raises `Malformed` if its superblock, group descriptors or log can't be used."""
    layout = Layout(volume)
    log = Replay()
    if layout.needs_recovery:
        log = replay(layout, journal_of(layout))
        # Read again: the log may hold newer copies of the superblock and the descriptors, too.
        layout = Layout(Replayed(volume, layout.block, log), is_replayed=True)
    table = read_inodes(layout)
    tree = read_tree(layout, table)
    files = {path: _entry(layout, inode) for path, inode in tree.paths.items()}
    files |= {path: FileEntry(OTHER, 0, NO_RUNS, problem=problem) for path, problem in tree.dangling.items()}
    idle, areas = _areas(layout, table, log)

    def on_disk(blocks: Ranges) -> Ranges:
        return volume.on_disk(blocks * layout.block)

    outside = extents.ranges([(layout.blocks * layout.block, max(volume.size, layout.blocks * layout.block))])
    free = extents.subtract(extents.ranges([(layout.first_block, layout.blocks)]), layout.used_blocks())
    return FileSystem(
        volume.place,
        layout.name,
        volume.span,
        files,
        free=extents.union(on_disk(free), volume.on_disk(outside)),
        idle=extents.union(on_disk(idle), _tails(layout, table)),
        areas=tuple((name, on_disk(blocks)) for name, blocks in areas.items()),
        contradictions=(*log.problems[:_MOST_NAMED], *contradictions(layout, table, tree)),
        checked=not log.notes,
        notes=tuple(log.notes),
    )


def _entry(layout: Layout, inode: Inode) -> FileEntry:
    kind = _KINDS.get(stat.S_IFMT(inode.mode), OTHER)
    size = inode.size if kind != OTHER else 0
    if inode.problem:
        return FileEntry(kind, size, NO_RUNS, problem=inode.problem)
    inline = inode.inline
    if inline is not None:
        return FileEntry(kind, size, NO_RUNS, hashlib.sha256(bytes([stat.S_IFMT(inode.mode) >> 12]) + inline).hexdigest())
    block = layout.block
    runs = [(first * block, start * block, count * block) for first, start, count, written in inode.mapped if written]
    entry = FileEntry(kind, size, np.array(layout.volume.runs_on_disk(runs, size), np.int64).reshape(-1, 3))
    if isinstance(layout.volume, Replayed) and layout.volume.is_escaped(runs):
        return dataclasses.replace(entry, digest=_digest(layout.volume, runs, size))
    return entry


def _digest(volume: Volume, runs: list[tuple[int, int, int]], size: int) -> str:
    """Returns the digest of content that does not lie on the disk as it is."""
    digest = hashlib.sha256()
    for offset, start, length in runs:
        for at in range(0, min(length, size - offset), _STEP):
            digest.update(offset.to_bytes(8, "little") + volume.read(start + at, min(_STEP, length - at, size - offset - at)))
    return digest.hexdigest()


def _areas(layout: Layout, table: Table, log: Replay) -> tuple[Ranges, dict[str, Ranges]]:
    """Returns the idle block numbers, and the structures by name."""
    areas: dict[str, list[Ranges]] = {name: [blocks] for name, blocks in layout.areas()}
    pairs: dict[str, list[tuple[int, int]]] = {"directory": [], "extent tree": [], "extended attributes": []}
    pairs |= {"journal": [], "orphan file": []}
    idle = [(block, block + 1) for block in log.moved]
    for inode in table.inodes.values():
        blocks = [(block, block + count) for _, block, count, _ in inode.mapped]
        pairs["extent tree"] += [(block, block + 1) for block in inode.own]
        if inode.attributes:
            pairs["extended attributes"].append((inode.attributes, inode.attributes + 1))
        if inode.is_directory:
            pairs["directory"] += blocks
        elif inode.flags & EA_INODE_FLAG:
            pairs["extended attributes"] += blocks
        elif inode.number == JOURNAL_INODE and layout.compat & HAS_JOURNAL:
            head = blocks[0][0] if blocks else 0
            pairs["journal"] += [(head, head + 1), *((block, block + 1) for block in log.live)]
            idle += blocks
        elif inode.number == layout.orphan_file:
            pairs["orphan file"] += blocks
        elif not inode.links and inode.number >= layout.first_inode:
            idle += blocks
        else:
            idle += [(block, block + count) for _, block, count, written in inode.mapped if not written]
    if layout.cluster > 1:
        # With bigalloc, a cluster is in use as a whole, although its owner may have only some of its blocks.
        everything = union_of([layout.fixed, *map(owned_by, table.inodes.values()), extents.ranges(pairs["extended attributes"])])
        idle += extents.subtract(layout.whole_clusters(everything), everything).tolist()
    for name, found in pairs.items():
        areas.setdefault(name, []).append(extents.ranges(found))
    joined = {name: extents.normalised(np.concatenate(parts)) for name, parts in areas.items()}
    return extents.subtract(extents.ranges(idle), joined["journal"]), {
        name: blocks for name, blocks in joined.items() if len(blocks)
    }


def _tails(layout: Layout, table: Table) -> Ranges:
    """Returns the guest bytes of files' blocks that lie past the files' ends."""
    found = []
    for inode in table.inodes.values():
        if stat.S_IFMT(inode.mode) in (stat.S_IFREG, stat.S_IFLNK) and inode.mapped:
            # Blocks reserved past the end are a run of their own, so that the end lies in one of the last two.
            for first, block, count, _ in inode.mapped[-2:]:
                rest = (first + count) * layout.block - max(inode.size, first * layout.block)
                if rest > 0:
                    end = (block + count) * layout.block
                    found.append((end - rest, end))
    return layout.volume.on_disk(extents.ranges(found)) if found else NO_RANGES
