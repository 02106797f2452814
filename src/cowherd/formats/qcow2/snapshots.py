"""The table of internal snapshots, read with every length bounded (specification: QEMU docs/interop/qcow2, section Snapshots)."""

from __future__ import annotations

from cowherd.errors import ImageFormatError
from cowherd.formats.qcow2.layout import Field, Structure
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.formats.qcow2.header import Header
    from cowherd.storage.hostfile import HostFile

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


class Snapshot(NamedTuple):
    """One internal snapshot. Sizes are bytes; `icount` is None where the snapshot does not record it.

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


def read_snapshots(file: HostFile, header: Header, *, cut: bool = False) -> tuple[Snapshot, ...]:
    """Returns the image's internal snapshots in the table's order.

    Raises `ImageFormatError` for a table that leaves the file or is larger than QEMU allows. Costs memory for the
    snapshots that are really there, whatever their number in the header claims; with `cut`, which reads a table in a file
    that was cut as if zeros followed, for as many as may be claimed.
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
