"""XFS's self-describing blocks (version 5): checksum, file system, place and owner are in the header of each.

Source: XFS Algorithms & Data Structures, "Self Describing Metadata"; the offsets are those of fs/xfs/libxfs/xfs_format.h and
xfs_da_format.h.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cowherd.guest.crc import START, crc32c_rows
from cowherd.guest.xfs.layout import Layout, Numbers, Rows, number

_NO_SEQUENCE = -1  # NULLCOMMITLSN: the block carries no number


@dataclass(frozen=True)
class Header:
    """The bytes in a block at which its checksum, file system, log sequence number, place and owner lie; None if it has none."""

    checksum: int
    uuid: int
    lsn: int
    place: int | None = None
    owner: int | None = None
    owner_bytes: int = 8


SUPERBLOCK = Header(224, 32, 240)
FREE_SPACE_HEAD = Header(216, 64, 208)
INODE_HEAD = Header(312, 296, 320)
FREE_LIST = Header(32, 8, 24)
SHORT_TREE = Header(52, 32, 24, 16, 48, 4)
LONG_TREE = Header(64, 40, 32, 24, 56)
INODE = Header(100, 160, 112, owner=152)
DIRECTORY = Header(4, 24, 16, 8, 40)
HASHED = Header(12, 32, 24, 16, 48)
REMOTE = Header(12, 16, 48, 40, 32)


def sums_wrong(rows: Rows, at: int) -> NDArray[np.bool_]:
    """Returns which rows don't match the checksum that they carry at byte `at`."""
    # Unlike all else in XFS, checksums are little-endian; they are made with their own bytes as zeros.
    stored = np.ascontiguousarray(rows[:, at : at + 4]).view("<u4")[:, 0]
    rows = rows.copy()
    rows[:, at : at + 4] = 0
    wrong: NDArray[np.bool_] = ~crc32c_rows(rows, np.full(len(rows), START, np.uint32)) != stored
    return wrong


def wrong(
    layout: Layout, header: Header, rows: Rows, blocks: Numbers | None = None, owners: Numbers | None = None
) -> NDArray[np.bool_]:
    """Returns which rows have a wrong checksum, or belong to another file system, other `blocks` of the volume or other `owners`.

    A file system of version 4 has no such headers, so that no row is wrong. Keeps the newest log sequence number in the layout.
    """
    if not layout.crcs or not len(rows):
        return np.zeros(len(rows), np.bool_)
    found = sums_wrong(rows, header.checksum)
    # xfs_admin -U changes the number in superblocks only; sb_meta_uuid keeps the one that all other blocks carry.
    uuid = layout.superblock[32:48] if header is SUPERBLOCK else layout.uuid
    found |= (rows[:, header.uuid : header.uuid + 16] != np.frombuffer(uuid, np.uint8)).any(axis=1)
    if header.place is not None and blocks is not None:
        found |= number(rows, header.place, 8) != blocks * (layout.block // 512)
    if header.owner is not None and owners is not None:
        found |= number(rows, header.owner, header.owner_bytes) != owners
    sequences = number(rows, header.lsn, 8)[~found]
    layout.newest = max(layout.newest, *sequences[sequences != _NO_SEQUENCE].tolist(), 0)
    return found
