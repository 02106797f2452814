"""Donors: images from which sealed blocks can be copied back.

Donors are never trusted: each block from a donor is compared with the seal before it is used, so that a wrong donor can do no
worse than to give nothing.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from cowherd.errors import CowherdError
from cowherd.formats import registry
from cowherd.herd.lineage.walk import files_under
from cowherd.herd.records.block import BLOCK
from cowherd.herd.records.digest import BlockDigests, Blocks, digests_of, equal_rows, is_zero, runs_of
from cowherd.herd.records.faults import ContentChanging, DonorMissing
from cowherd.herd.records.ownership import is_regular
from cowherd.herd.records.sidecars import shadow_path
from cowherd.herd.seals.quick_check import record_of
from cowherd.image.open import open_disk
from cowherd.live.holders import descriptors_of
from cowherd.storage.opening import open_file
from cowherd.storage.writeback import WriteBehind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.image.disk import Disk
    from cowherd.progress import Progress
    from cowherd.storage.blocks import Opener

_ZEROS = -1
_NOBODY = -2


@dataclass(frozen=True)
class Donor:
    """An image that may hold sealed blocks, and its format."""

    path: Path
    format: str


@dataclass(frozen=True, eq=False)
class Located:
    """The donors of `blocks`: for each block, `owner` has an index into `donors`, or -1 for a block of zeros."""

    sealed: BlockDigests
    blocks: Blocks
    owner: NDArray[np.int64]
    donors: tuple[Donor, ...]

    def bytes_by_donor(self) -> list[tuple[Path, int]]:
        """Returns the donors that give blocks, each with the number of bytes."""
        counts = [(donor.path, int((self.owner == index).sum()) * BLOCK) for index, donor in enumerate(self.donors)]
        return [(path, count) for path, count in counts if count]

    @property
    def zero_bytes(self) -> int:
        """Bytes in blocks of zeros, which need no donor."""
        return int((self.owner == _ZEROS).sum()) * BLOCK

    @contextlib.contextmanager
    def opened(self, opener: Opener = open_file) -> Iterator[BlockReader]:
        """Yields a reader of sealed blocks, which opens the donors when it needs them; `opener` lends those that are held."""
        with contextlib.ExitStack() as stack:
            yield BlockReader(self, stack, opener)


class BlockReader:
    """Reads sealed blocks from the donors that hold them."""

    def __init__(self, located: Located, stack: contextlib.ExitStack, opener: Opener):
        self._located, self._stack, self._opener = located, stack, opener
        self._disks: dict[int, Disk] = {}

    def read(self, block: int, buffer: memoryview) -> bool:
        """Fills `buffer`, of 64 KiB, with the sealed content of `block`; returns False if that is zeros.

        Raises `ContentChanging` if the donor no longer holds the block that `locate` found there.
        """
        where = int(np.searchsorted(self._located.blocks, block))
        owner = int(self._located.owner[where])
        if owner == _ZEROS:
            buffer[:] = bytes(len(buffer))
            return False
        self._disk(owner).read_padded(block * BLOCK, buffer)
        wanted = self._located.sealed.lookup(self._located.blocks[where : where + 1])
        if blake3(buffer).digest() != wanted.tobytes():
            raise ContentChanging(self._located.donors[owner].path)
        return True

    def _disk(self, owner: int) -> Disk:
        if owner not in self._disks:
            donor = self._located.donors[owner]
            disk = open_disk(donor.path, format=donor.format, opener=self._opener)
            self._disks[owner] = self._stack.enter_context(disk)
        return self._disks[owner]


def write_blocks(disk: Disk, located: Located, blocks: Blocks, progress: Progress | None = None) -> None:
    """Writes the sealed content of `blocks` into `disk`, and flushes it. Raises as `BlockReader.read`."""
    buffer = memoryview(bytearray(BLOCK))
    behind = WriteBehind(disk.layers[0].data.host)
    with located.opened() as reader:
        for done, block in enumerate(blocks.tolist(), 1):
            length = min(BLOCK, disk.size - block * BLOCK)
            if reader.read(block, buffer):
                disk.write(block * BLOCK, buffer[:length])
                behind.wrote(length)
            else:
                disk.zero(block * BLOCK, length)
            if progress:
                progress(done * BLOCK, len(blocks) * BLOCK)
    disk.flush()


def locate(
    base: Image,
    sealed: BlockDigests,
    blocks: Blocks,
    lineage: Lineage,
    named: Sequence[Path] = (),
    opener: Opener = open_file,
) -> Located:
    """Finds a donor for each of `blocks`, among those `named`, or if none is named, among all candidates in the herd.

    Reads the blocks from the donors; `opener` lends those that the caller holds. Raises `DonorMissing` if no donor holds some of
    them, and a named donor's own error if it can't be read.
    """
    wanted = sealed.lookup(blocks)
    owner = np.where(is_zero(wanted), _ZEROS, _NOBODY).astype(np.int64)
    tried: list[Donor] = []
    candidates = [Donor(path, lineage.find(path).format) for path in named] if named else _candidates(lineage, base, sealed.size)
    for candidate in candidates:
        missing = np.flatnonzero(owner == _NOBODY)
        if not len(missing):
            break
        held = _held_by(candidate, blocks[missing], wanted[missing], opener, must_open=bool(named))
        owner[missing[held]] = len(tried)
        tried.append(candidate)
    missing_bytes = int((owner == _NOBODY).sum()) * BLOCK
    if missing_bytes:
        raise DonorMissing(base.path, missing_bytes, [donor.path for donor in tried])
    return Located(sealed, blocks, owner, tuple(tried))


def _held_by(donor: Donor, blocks: Blocks, wanted: NDArray[np.uint8], opener: Opener, *, must_open: bool) -> NDArray[np.bool_]:
    try:
        with open_disk(donor.path, format=donor.format, opener=opener) as disk:
            return equal_rows(digests_of(disk, runs_of(blocks)), wanted)
    except CowherdError:
        if must_open:
            raise
        return np.zeros(len(blocks), np.bool_)  # a candidate that nobody named and that can't be read just gives nothing


def _candidates(lineage: Lineage, base: Image, size: int) -> Iterator[Donor]:
    """Yields images that may hold the blocks, the likeliest first: the shadow; the file itself, if it was deleted while a process
    has it open; images sealed with the same content; images and raw files of the same size. Dependents of the base are left out:
    they show the drift, not the content before it."""
    record = record_of(base)
    if record and record.shadow:
        shadow = shadow_path(base.path)
        if is_regular(shadow):  # it need not be proven to be the shadow, since every block is compared with the seal
            yield Donor(shadow, record.format)
    if record and base.size is None:
        still_open = descriptors_of(record.identity.device, record.identity.inode)
        yield from (Donor(descriptor, record.format) for descriptor in still_open)
    excluded = {image.key for image in (base, *lineage.dependents(base))}
    others = [image for image in lineage.images.values() if image.key not in excluded and image.size == size]
    others.sort(key=lambda image: (not _sealed_alike(image, record.content_digest if record else None), image.path))
    yield from (Donor(image.path, image.format) for image in others)
    known = {name for image in lineage.images.values() for name in image.names}
    yield from (Donor(path, registry.RAW.name) for path in _files_of_size(lineage.directories, size) if path not in known)


def _sealed_alike(image: Image, content_digest: bytes | None) -> bool:
    try:
        record = record_of(image)
    except CowherdError:
        return False  # only the order of trying depends on it
    return record is not None and record.content_digest == content_digest


def _files_of_size(directories: Mapping[str, int | None], size: int) -> Iterator[Path]:
    for directory, levels in directories.items():
        for name in files_under(directory, levels, []):
            with contextlib.suppress(OSError):  # it disappeared after the listing
                if os.stat(name).st_size == size:
                    yield Path(name)
