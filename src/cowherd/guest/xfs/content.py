"""Where the content of an XFS file system's files lies, and which blocks belong to files but hold nothing."""

from __future__ import annotations

import stat

import numpy as np
from numpy.typing import NDArray

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.chart import NO_RANGES, NO_RUNS, Runs
from cowherd.guest.xfs.blocks import REMOTE, wrong
from cowherd.guest.xfs.inodes import Inodes
from cowherd.guest.xfs.layout import Layout, Numbers, Rows

_LINK_MAGIC = b"XSLM"
_LINK_HEADER, _LONGEST_TARGET = 56, 1024


class Content:
    """The content of all files: `idle` are blocks that read as zeros or lie past a file's end, `areas` are the files' blocks that
    hold no content of plain files, by name. `tails` are bytes of the volume: the rest of files' last blocks.
    """

    def __init__(self, layout: Layout, inodes: Inodes):
        self._layout, self._inodes = layout, inodes
        mapped = inodes.content
        kinds = np.zeros(len(mapped.inode), np.int64)
        rows = np.array([inodes.index[inode] for inode in mapped.inode.tolist()], np.int64)
        if len(rows):
            kinds = inodes.table["mode"][rows] & 0o170000
        system = np.isin(mapped.inode, [layout.values["realtime_bitmap"], layout.values["realtime_summary"]])
        quota = np.isin(mapped.inode, list(layout.quota_inodes))
        plain = (kinds == stat.S_IFREG) & ~system & ~quota
        maps = np.concatenate((mapped.own, inodes.attributes.own))
        self.areas: dict[str, Ranges] = {
            "directory": mapped.pairs[kinds == stat.S_IFDIR],
            "symbolic link": mapped.pairs[kinds == stat.S_IFLNK],
            "quota": mapped.pairs[quota],
            "realtime index": mapped.pairs[system],
            "extended attributes": inodes.attributes.pairs,
            "file map": np.column_stack((maps, maps + 1)),
            "log": np.array([layout.log] if layout.values["log_start"] else [], np.int64).reshape(-1, 2),
        }
        self.idle: Ranges = NO_RANGES
        self.tails: Ranges = NO_RANGES
        self._runs: Runs = NO_RUNS
        self._of: Numbers = np.empty(0, np.int64)
        self._place(plain, rows[plain] if len(rows) else rows)

    def _place(self, plain: NDArray[np.bool_], rows: Numbers) -> None:
        """Shortens the runs of plain files to the files' sizes, and finds where they lie on the disk, all of them at once."""
        mapped, block = self._inodes.content, self._layout.block
        size = self._inodes.table["size"][rows].astype(np.int64)
        first, start, count = mapped.first[plain] * block, mapped.block[plain] * block, mapped.count[plain] * block
        written, inode = mapped.written[plain], mapped.inode[plain]
        inside = np.clip(size - first, 0, count)
        reach = -(-inside // block) * block
        self.tails = extents.normalised(np.column_stack((start + inside, start + reach))[written])
        # An unwritten run reads as zeros from its begin on; of a written one, the blocks past the file's end hold nothing.
        past = np.column_stack((start + np.where(written, reach, 0), start + count)) // block
        self.idle = extents.normalised(past)
        held = written & (inside > 0)
        owner, before, host, length = self._layout.volume.placed(start[held], inside[held])
        self._runs = np.column_stack((first[held][owner] + before, host, length))
        self._of = inode[held][owner]

    def runs(self, inode: int) -> Runs:
        """Returns the runs of a plain file, none if it has no content."""
        low, high = np.searchsorted(self._of, (inode, inode + 1))
        return self._runs[low:high]

    def judge_links(self) -> None:
        """Adds a problem for each symbolic link whose target can't be read."""
        mapped = self._inodes.content
        rows = [self._inodes.index[inode] for inode in np.unique(mapped.inode).tolist()]
        links = self._inodes.table[rows] if rows else self._inodes.table[:0]
        for inode in links["number"][links["mode"] & 0o170000 == stat.S_IFLNK].tolist():
            if inode not in self._inodes.problems and self.target(inode) is None:
                self._inodes.problems[inode] = "where it leads to can't be read"

    def target(self, inode: int) -> bytes | None:
        """Returns the path that a symbolic link leads to, None if it can't be read."""
        size = int(self._inodes.table["size"][self._inodes.index[inode]])
        if inode in self._inodes.local:
            return self._inodes.local[inode]
        mapped = self._inodes.content.at(inode)
        if not 0 < size <= _LONGEST_TARGET or int(mapped.count.sum()) * self._layout.block > 1 << 16:
            return None
        parts = []
        for block, count in zip(mapped.block.tolist(), mapped.count.tolist(), strict=True):
            rows = self._layout.rows(np.arange(block, block + count))
            parts += self._parts(rows, block, inode)
        joined = b"".join(parts)
        return joined[:size] if len(joined) >= size else None

    def _parts(self, rows: Rows, block: int, inode: int) -> list[bytes]:
        if not self._layout.crcs:
            return [row.tobytes() for row in rows]
        blocks = np.arange(block, block + len(rows))
        bad = wrong(self._layout, REMOTE, rows, blocks, np.full(len(rows), inode))
        bad |= (rows[:, :4] != np.frombuffer(_LINK_MAGIC, np.uint8)).any(axis=1)
        return [] if bad.any() else [row[_LINK_HEADER:].tobytes() for row in rows]
