"""The file that holds a seal: `NAME.seal` beside the image NAME; if it can't lie there, `sealplace` says where it lies.

All numbers are little-endian:

    offset  bytes  what
    0       8      magic "cowseal\\n"
    8       4      version, 1
    12      4      length of the record in bytes
    16      4      CRC-32 of the record
    20      4      zero
    24      8      number of runs
    32      8      number of digests
    40             the record, a JSON object (see `SealRecord`)
                   for each run of blocks that are not zeros: first block, block after the last (8 bytes each)
                   for each block of those runs: its BLAKE3 digest (32 bytes)
                   BLAKE3 digest of everything before (32 bytes)

The CRC allows a reader to use the record alone: verifying by identity reads nothing else and needs no numpy.
"""

from __future__ import annotations

import struct
import zlib

from cowherd.errors import CowherdError, ImageFormatError
from cowherd.herd.records import checked
from cowherd.herd.records.block import BLOCK, DIGEST_BYTES
from cowherd.herd.records.ownership import SEAL_MAGIC
from cowherd.herd.records.sealrecord import MAX_SIZE, SealRecord, record_from_json
from cowherd.storage.hostfile import HostFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cowherd.herd.records.digest import BlockDigests
    from cowherd.paths import PathName


VERSION = 1
_LARGE = 16 << 20  # seals of more bytes are searched for holes
PREFIX = struct.Struct("<8sIII4xQQ")
_MAX_RECORD = 8 << 20
_RUN = 16


def read_record(path: PathName) -> SealRecord:
    """Reads the record of a seal. Raises `ImageFormatError` if it is damaged, `HostFileError` if it can't be read."""
    with HostFile.open(path, lock=None, follow=False) as file:
        return SealReader(file).record()


def read_record_or_none(path: PathName) -> SealRecord | None:
    """Reads the record of a seal; None where none is there, or one that can't be read, which says nothing."""
    try:
        return read_record(path)
    except CowherdError:
        return None


def read_digests(path: PathName) -> tuple[SealRecord, BlockDigests]:
    """Reads a whole seal and checks its checksum, its runs, and that its content digest matches its blocks.

    Raises `ImageFormatError` if it is damaged, `HostFileError` if it can't be read.
    """
    with HostFile.open(path, lock=None, follow=False) as file:
        return SealReader(file).everything()


def check_seal(path: PathName) -> SealRecord:
    """Checks a seal as `read_digests` does, without numpy, and returns the record alone. Raises as `read_digests`."""
    with HostFile.open(path, lock=None, follow=False) as file:
        return SealReader(file).checked()[0]


class SealReader:
    """Reads an open seal. Every method raises `ImageFormatError` if the seal is damaged, `HostFileError` if the host fails."""

    def __init__(self, file: HostFile):
        self.file = file
        if file.size() < PREFIX.size:
            raise self._damaged("it is too short to be a seal")
        magic, version, self.length, self.crc, self.run_count, self.digest_count = PREFIX.unpack(file.pread(0, PREFIX.size))
        if magic != SEAL_MAGIC:
            raise self._damaged("it is not a seal")
        if version != VERSION:
            raise self._damaged(f"it has version {version}; this cowherd knows version {VERSION}")
        if self.length > _MAX_RECORD:
            raise self._damaged("its record is too long")
        self.body = PREFIX.size + self.length
        if self.digest_count > MAX_SIZE // BLOCK or self.run_count > self.digest_count:
            raise self._damaged("it is cut short: it has more blocks than any image")
        self.end = self.body + self.run_count * _RUN + self.digest_count * DIGEST_BYTES
        if file.size() != self.end + DIGEST_BYTES or self._has_holes():
            raise self._damaged("it is cut short, or longer than it says")

    def _has_holes(self) -> bool:
        """Returns whether a large seal has holes. Digests never do; a file of holes can claim any length and exhaust memory."""
        return self.end > _LARGE and next(self.file.data_ranges(0, self.end), None) != (0, self.end)

    def record(self) -> SealRecord:
        """Returns the record alone, checked by its CRC."""
        text = self.file.pread(PREFIX.size, self.length)
        if zlib.crc32(text) != self.crc:
            raise self._damaged("the checksum of its record is wrong")
        try:
            return record_from_json(checked.load_record(text))
        except ValueError as error:
            raise self._damaged(f"its record makes no sense ({error})") from error

    def checked(self) -> tuple[SealRecord, bytes]:
        """Checks the whole file, and returns the record and the file's bytes."""
        from blake3 import blake3

        from cowherd.herd.records.content import content_digest

        try:
            data = self.file.pread(0, self.end + DIGEST_BYTES)
        except (MemoryError, OverflowError) as error:  # a file may be nearly all holes, and longer than any memory
            raise self._damaged(f"it has {self.end} bytes, which do not fit into memory") from error
        view = memoryview(data)
        if blake3(view[: self.end]).digest() != data[self.end :]:
            raise self._damaged("its checksum is wrong")
        record = self.record()
        self._check_runs(struct.iter_unpack("<qq", view[self.body : self.body + self.run_count * _RUN]), record.size)
        found = content_digest(record.size, self.run_count, view[self.body : self.end], of_file=record.of_file)
        if found != record.content_digest:
            raise self._damaged("its content digest is not that of its blocks")
        return record, data

    def everything(self) -> tuple[SealRecord, BlockDigests]:
        """Returns the record and the digests of all blocks."""
        import numpy as np

        from cowherd.herd.records.digest import BlockDigests

        record, data = self.checked()
        runs = np.frombuffer(data, "<i8", self.run_count * 2, self.body).reshape(-1, 2).astype(np.int64)
        rows = np.frombuffer(data, np.uint8, self.digest_count * DIGEST_BYTES, self.body + self.run_count * _RUN)
        return record, BlockDigests(record.size, runs, rows.reshape(-1, DIGEST_BYTES), record.of_file)

    def _check_runs(self, runs: Iterable[tuple[int, int]], size: int) -> None:
        position, blocks = -1, 0
        for first, end in runs:
            if not position < first < end:
                raise self._damaged("its runs are out of order")
            position, blocks = end, blocks + end - first
        if position * BLOCK >= size + BLOCK or blocks != self.digest_count:
            raise self._damaged("its runs do not fit its size or its digests")

    def _damaged(self, problem: str) -> ImageFormatError:
        return ImageFormatError(self.file.name, f"the seal can't be used: {problem}")
