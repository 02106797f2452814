"""The table of internal snapshots, read with every length bounded (specification: QEMU docs/interop/qcow2, section Snapshots)."""

from __future__ import annotations

from cowherd.errors import ImageFormatError
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.layout import Field, Structure
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cowherd.formats.qcow2.header import Header
    from cowherd.storage.blocks import BlockFile

ENTRY = Structure(
    Field("l1_offset", 0, "Q", "file offset of the snapshot's L1 table"),
    Field("l1_size", 8, "I", "entries in that table"),
    Field("id_length", 12, "H", "bytes of the snapshot's id"),
    Field("name_length", 14, "H", "bytes of the snapshot's name"),
    Field("date_seconds", 16, "I", "when it was taken, seconds since 1970"),
    Field("date_nanoseconds", 20, "I", "the part of a second"),
    Field("vm_clock_nanoseconds", 24, "Q", "how long the guest had run"),
    Field("vm_state_size_small", 32, "I", "bytes of saved VM state, where the extra data does not say"),
    Field("extra_length", 36, "I", "bytes of extra data"),
)
EXTRA = Structure(
    Field("vm_state_size", 0, "Q", "bytes of saved VM state"),
    Field("disk_size", 8, "Q", "virtual size in bytes"),
    Field("icount", 16, "Q", "instructions that the guest had executed, -1 if not counted"),
)
_NO_ICOUNT = 2**64 - 1

# QEMU's implementation limits (block/qcow2.h)
MAX_TABLE_BYTES = 64 << 20
MAX_EXTRA_BYTES = 1024
_MOST_BYTES = 2**63 - 1
_LEAST_BUDGET = 512 << 20
_COMPRESSION = 16
"""How many times the space that a file takes its L1 tables may be, on a file system that compresses."""


class Snapshot(NamedTuple):
    """One internal snapshot. Sizes are bytes; `icount` is None if the snapshot does not record it.

    `id` and `name` end at the first zero byte; bytes that are not UTF-8 are kept by surrogate escapes.
    """

    id: str
    name: str
    l1_offset: int
    l1_size: int
    vm_state_size: int
    date_seconds: int
    date_nanoseconds: int
    vm_clock_nanoseconds: int
    icount: int | None
    disk_size: int

    @property
    def label(self) -> str:
        """Its name, or its id if it has no name."""
        return self.name or self.id

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd-img info --output=json` prints them."""
        seconds, nanoseconds = divmod(self.vm_clock_nanoseconds, 10**9)
        document: dict[str, Any] = {} if self.icount is None else {"icount": self.icount}
        return document | {
            "vm-clock-nsec": nanoseconds,
            "name": self.name,
            "date-sec": self.date_seconds,
            "date-nsec": self.date_nanoseconds,
            "vm-clock-sec": seconds,
            "id": self.id,
            "vm-state-size": self.vm_state_size,
        }


def read_snapshots(file: BlockFile, header: Header, *, cut: bool = False) -> tuple[Snapshot, ...]:
    """Returns the image's internal snapshots in the table's order.

    Raises `ImageFormatError` for a table that ends past the file or is larger than QEMU allows. Takes memory for the snapshots
    that exist, whatever number the header claims. With `cut`, a table at the end of a truncated file is read as if zeros
    followed, and takes memory for as many snapshots as the header claims.
    """
    found: list[Snapshot] = []
    position, file_size = header.snapshots_offset, file.size()
    for index in range(header.nb_snapshots):
        position += -position % 8
        values = ENTRY.unpack(file.pread(position, ENTRY.size))
        if values["extra_length"] > MAX_EXTRA_BYTES:
            raise ImageFormatError(file.name, f"Too much extra metadata in snapshot table entry {index}")
        position += ENTRY.size
        length = values["extra_length"] + values["id_length"] + values["name_length"]
        if position + length > file_size and not cut:
            raise ImageFormatError(file.name, f"Snapshot table entry {index} lies past the end of the file")
        if position + length - header.snapshots_offset > MAX_TABLE_BYTES:
            raise ImageFormatError(file.name, "Snapshot table is too big")
        found.append(_snapshot(values, file.pread(position, length), header.size))
        position += length
    return tuple(found)


def header_at(file: BlockFile, header: Header, snapshot: Snapshot) -> Header:
    """Returns the header that the image would have if its active state were that of `snapshot`.

    The L1 table is shortened to the snapshot's disk, because the entries behind it map the saved memory of the machine.
    Raises `ImageFormatError` for a snapshot whose table QEMU would not read, or that does not map its disk.
    """
    mapped_by_entry = header.l2_entries * header.cluster_size
    entries = -(-snapshot.disk_size // mapped_by_entry)
    if snapshot.disk_size > _MOST_BYTES:
        raise _broken(file, snapshot, f"a disk of {snapshot.disk_size} bytes is too large")
    if snapshot.l1_size * layout.L1_ENTRY_BYTES > layout.MAX_L1_BYTES:
        raise _broken(file, snapshot, "its L1 table is too large")
    if entries > snapshot.l1_size:
        raise _broken(file, snapshot, "its L1 table is too small")
    if entries and (snapshot.l1_offset % header.cluster_size or not header.cluster_size <= snapshot.l1_offset < 1 << 56):
        raise _broken(file, snapshot, "the offset of its L1 table is invalid")
    return header._replace(size=snapshot.disk_size, l1_size=entries, l1_table_offset=snapshot.l1_offset)


def require_separate_tables(file: BlockFile, snapshots: Sequence[Snapshot]) -> None:
    """Raises `ImageFormatError` if the L1 tables of `snapshots` are together larger than the file can hold.

    A small file could otherwise name the same table tens of thousands of times, and keep a reader busy for days.
    """
    if sum(snapshot.l1_size for snapshot in snapshots) > most_l1_entries(file):
        raise ImageFormatError(file.name, "Image is corrupt: the L1 tables of its snapshots overlap")


def most_l1_entries(file: BlockFile) -> int:
    """Returns the most L1 entries that can be in a file whose tables do not overlap; the holes of a sparse file do not count."""
    size = file.size()
    stored = file.allocated_bytes() or 0  # a server does not tell, and may claim any length
    most = size if file.is_block_device else min(size, _LEAST_BUDGET + _COMPRESSION * stored)
    return (most + layout.MAX_L1_BYTES) // layout.L1_ENTRY_BYTES


def _broken(file: BlockFile, snapshot: Snapshot, problem: str) -> ImageFormatError:
    return ImageFormatError(
        file.name, f"Image is corrupt: snapshot {printable(snapshot.id)} ({printable(snapshot.name)}): {problem}"
    )


def _snapshot(values: dict[str, int], variable: bytes, image_size: int) -> Snapshot:
    extra_length, id_end = values["extra_length"], values["extra_length"] + values["id_length"]
    extra = EXTRA.unpack(variable[:extra_length].ljust(EXTRA.size, b"\0"))
    icount = extra["icount"] if extra_length >= 24 else _NO_ICOUNT
    return Snapshot(
        id=_text(variable[extra_length:id_end]),
        name=_text(variable[id_end:]),
        l1_offset=values["l1_offset"],
        l1_size=values["l1_size"],
        vm_state_size=extra["vm_state_size"] if extra_length >= 8 else values["vm_state_size_small"],
        date_seconds=values["date_seconds"],
        date_nanoseconds=values["date_nanoseconds"],
        vm_clock_nanoseconds=values["vm_clock_nanoseconds"],
        icount=None if icount == _NO_ICOUNT else icount,
        disk_size=extra["disk_size"] if extra_length >= 16 else image_size,
    )


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
