"""XFS, versions 4 and 5, read by code of our own.

The libraries that list such a file system's files don't show which blocks its trees call free, or whose they are, and a verdict
needs that. Once the trees are read, the directories are a page more, and all parts can be checked against each other.
"""

from __future__ import annotations

import hashlib
import stat

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.chart import DIRECTORY, FILE, NO_RUNS, OTHER, SYMLINK, FileEntry, FileSystem
from cowherd.guest.source import Volume
from cowherd.guest.xfs.check import contradictions
from cowherd.guest.xfs.content import Content
from cowherd.guest.xfs.directories import Tree, read_tree
from cowherd.guest.xfs.groups import areas_of, read_groups
from cowherd.guest.xfs.inodes import Inodes, read_inodes
from cowherd.guest.xfs.layout import Layout
from cowherd.guest.xfs.log import read_log

_KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK}


def read_xfs(volume: Volume) -> FileSystem:
    """Reads the file system in a volume. Raises `Malformed` if its superblock can't be used."""
    layout = Layout(volume)
    groups = read_groups(layout)
    inodes = read_inodes(layout, groups.chunks())
    tree = read_tree(layout, inodes)
    log = read_log(layout)
    settled = log is not None and log.clean
    content = Content(layout, inodes)
    content.judge_links()
    found = contradictions(layout, groups, inodes, tree, log)
    idle, areas = content.idle, {**areas_of(groups), **content.areas}
    # A group keeps some free blocks on a list of its own, ready for its trees (AGFL): they hold nothing.
    free = extents.union(groups.free, groups.listed)
    if settled:
        idle = extents.union(idle, groups.copies_on_write)
    else:
        # The log is not replayed here: what it will do may need any block that the trees call free.
        areas["space that its log may put to use"], free = free, free[:0]
    outside = extents.ranges([(layout.blocks * layout.block, max(volume.size, layout.blocks * layout.block))])

    def on_disk(blocks: Ranges) -> Ranges:
        return volume.on_disk(extents.normalised(blocks) * layout.block)

    return FileSystem(
        volume.place,
        layout.name,
        volume.span,
        _files(layout, inodes, tree, content),
        free=extents.union(on_disk(free), volume.on_disk(outside)),
        idle=extents.union(on_disk(idle), volume.on_disk(content.tails)),
        areas=tuple((name, on_disk(blocks)) for name, blocks in areas.items() if len(blocks)),
        contradictions=tuple(found) if settled else (),
        checked=settled,
        notes=tuple(_notes(layout, settled=settled, has_log=log is not None)),
    )


def _notes(layout: Layout, *, settled: bool, has_log: bool) -> list[str]:
    notes = []
    if not has_log:
        notes.append("its log lies on another device: whether it holds changes that the rest does not show yet is not known")
    elif not settled:
        notes.append("its log was not replayed: it holds changes that the rest does not show yet")
    if layout.values["realtime_blocks"]:
        notes.append("it has files on a realtime device, which are not read")
    if layout.quota_inodes:
        notes.append("its quotas were not compared with its files")
    return notes


def _files(layout: Layout, inodes: Inodes, tree: Tree, content: Content) -> dict[str, FileEntry]:
    entries: dict[int, FileEntry] = {}
    files = {}
    for path, inode in tree.paths.items():
        if inode not in entries:
            entries[inode] = _entry(inodes, inode, content)
        files[path] = entries[inode]
    return files | {path: FileEntry(OTHER, 0, NO_RUNS, problem=problem) for path, problem in tree.dangling.items()}


def _entry(inodes: Inodes, inode: int, content: Content) -> FileEntry:
    row = inodes.index[inode]
    mode = stat.S_IFMT(int(inodes.table["mode"][row]))
    kind = _KINDS.get(mode, OTHER)
    size = int(inodes.table["size"][row]) if kind != OTHER else 0
    if inode in inodes.problems:
        return FileEntry(kind, size, NO_RUNS, problem=inodes.problems[inode])
    if kind == FILE:
        return FileEntry(kind, size, content.runs(inode))
    if kind == DIRECTORY:
        return FileEntry(kind, size, NO_RUNS)
    held = inodes.local.get(inode, b"") if kind == OTHER else content.target(inode) or b""
    return FileEntry(kind, size, NO_RUNS, hashlib.sha256(bytes([mode >> 12]) + held).hexdigest())
