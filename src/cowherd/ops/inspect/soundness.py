"""Checks that an image is sound, before it is sealed or the first overlay of it is made.

From then on, whatever QEMU shows of the file counts as its content, even the zeros in place of a part that was cut off. The check
reads tables; of the data it reads only a raw file's first sector and a compressed cluster at the very end of the file.
"""

from __future__ import annotations

import os
from array import array

from cowherd.errors import CowherdError, ImageFormatError
from cowherd.formats import registry
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.header import read_header
from cowherd.formats.qcow2.words import WORD_BYTES, unpacked
from cowherd.ops.inspect.content import ENOUGH_BYTES, ends_as_fixed_vhd, foreign_content
from cowherd.paths import as_path
from cowherd.storage.locks import READ
from cowherd.storage.opening import open_file, require_host
from cowherd.text import counted, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.formats.qcow2.header import Header
    from cowherd.paths import PathName
    from cowherd.storage.blocks import Opener
    from cowherd.storage.hostfile import HostFile

_NAMED_FOR = {
    ".qcow2": "qcow2",
    ".qcow": "qcow",
    ".qed": "qed",
    ".vdi": "vdi",
    ".vhd": "vpc",
    ".vhdx": "vhdx",
    ".vmdk": "vmdk",
}
"""The format that the suffix of a file's name claims."""
_FEW_TABLES = 32
"""Up to so many L2 tables are searched without numpy, which takes some milliseconds: less than importing it."""


class NotSound(CowherdError):
    """An image that was to be sealed, or to become a base, is damaged or no disk image.

    Attributes: `path`, `action` (what was refused, as in "seal"), `problem`.
    """

    exit_code = 4

    def __init__(self, path: PathName, action: str, problem: str):
        self.path, self.action, self.problem = as_path(path), action, problem

    def __str__(self) -> str:
        return (
            f"refusing to {self.action} {shown(self.path)}: {self.problem}. What it shows now would count as its content for "
            f"ever: get it whole again, or take it as it is ('cowherd seal --force')"
        )


def require_sound(
    path: PathName,
    format: str,
    *,
    action: str,
    stated: bool = False,
    recorded: bool = False,
    tables: bool = True,
    opener: Opener = open_file,
) -> None:
    """Raises `NotSound` for an image of `format` that is damaged, cut off, empty, or no disk image.

    `stated`: the user states this format now, so that what the file looks like does not matter. `recorded`: an overlay records
    the format, so that the file's name does not matter. Without `tables` it checks only the parts of a qcow2 image that reading
    it uses (without numpy if it is small), not its refcounts. `opener` opens the file, or lends it if it
    is held. Raises `HostFileError`, `ImageInUse`, and `UnsupportedFeature`.
    """
    with require_host(opener(path)) as file:
        if format == registry.QCOW2.name:
            file.lock(READ)
            problem = _problem_of_qcow2(file, tables=tables)
        else:
            problem = _problem_of_file(file, format, stated=stated, named=not (stated or recorded))
    if problem is not None:
        raise NotSound(path, action, problem)


def _problem_of_file(file: HostFile, format: str, *, stated: bool, named: bool) -> str | None:
    """Says what is wrong with a file in a format without tables, or with tables that cowherd can't read; None if nothing is."""
    size = file.size()
    if not size:
        return "it is empty, a disk of no bytes"
    if not registry.named(format).verbatim or stated:
        return None
    foreign = foreign_content(file.pread(0, min(size, ENOUGH_BYTES)), size)
    if foreign:
        return f"it is {foreign}, and no disk image"
    expected = _format_in_name(os.path.basename(file.name)) if named else None
    if expected is None or (expected == "vpc" and ends_as_fixed_vhd(file.pread(max(0, size - 512), min(size, 512)))):
        return None
    return f"its name speaks of a {expected} image, and it holds none (--format raw says that it is a raw disk)"


def _format_in_name(name: str) -> str | None:
    stem, suffix = os.path.splitext(name.lower())
    if suffix == ".vmdk" and (stem.endswith("-flat") or stem[-5:-3] == "-f"):
        return None  # an extent file of VMware, which is a raw disk
    return _NAMED_FOR.get(suffix)


def _problem_of_qcow2(file: HostFile, *, tables: bool) -> str | None:
    try:
        header = read_header(file)
        if header.disk_size == 0:
            return "it is a disk of no bytes"
        if header.corrupt:
            return "it is marked corrupt: whoever used it last found its tables broken"
        cut = _cut_off(file, header, every=tables)
        return cut or (_contradiction(file, header) if tables and not header.external_data_file else None)
    except ImageFormatError as error:
        return error.problem


def _contradiction(file: HostFile, header: Header) -> str | None:
    """Says what `qemu-img check` would call a corruption, None if there is none. Leaked clusters do no harm."""
    from cowherd.formats.qcow2.check import check

    report = check(file, header)
    wrong = report.corruptions + report.check_errors
    if not wrong:
        return None
    first = f"{counted(wrong, 'error')} in its tables, as in: {next(iter(report.messages), 'refcounts')}"
    if report.image_end_offset >= file.size() + header.cluster_size:
        return f"it is cut off at {file.size():#x}; {first}"
    unclosed = "it was not closed, and is" if header.dirty else "it is"
    return f"{unclosed} damaged; {first} ('qemu-img check -r all' may put a copy right)"


def _cut_off(file: HostFile, header: Header, *, every: bool) -> str | None:
    """Says which table or data of the image lies past the end of its file, where QEMU silently reads zeros; None if none does.

    QEMU itself may end a file inside a cluster: after the last table, compressed data, or subclusters in use. With `every` the
    tables of internal snapshots are checked too.
    """
    size = file.size()
    ends = f"and the file ends at {size:#x}: it is cut off"
    l2_tables: set[int] = set()
    for offset, entries in _l1_tables(file, header, every=every):
        if offset + entries * 8 > size:
            return f"an L1 table at {offset:#x} has {entries * 8} bytes, {ends}"
        words = unpacked(file.pread(offset, entries * 8))
        l2_tables.update(word & layout.L1_OFFSET_MASK for word in set(words))
    l2_tables.discard(0)
    for offset in l2_tables:
        if offset % header.cluster_size:
            return f"an L2 table at {offset:#x} does not begin with a cluster"
        if offset + header.cluster_size > size:
            return f"an L2 table is to lie at {offset:#x}, {ends}"
    if header.external_data_file:
        return None  # the entries point into another file
    for word, subclusters in _entries_near(file, header, sorted(l2_tables), size):
        begin, end = _range_of_entry(header, word, subclusters)
        if end > size and not _is_complete(file, header, word, begin, size):
            return f"guest data is to lie at {begin:#x} to {end:#x}, {ends}"
    return None


def _l1_tables(file: HostFile, header: Header, *, every: bool) -> Iterator[tuple[int, int]]:
    """Yields the file offset and the number of entries of each L1 table."""
    if header.l1_size:
        yield header.l1_table_offset, header.l1_size
    if every and header.nb_snapshots:
        from cowherd.formats.qcow2.roots import followable

        for root, inside in followable(file, header):
            if not root.active and root.problem is None and inside == root.entries:
                yield root.offset, root.entries


def _entries_near(file: HostFile, header: Header, tables: list[int], size: int) -> Iterator[tuple[int, int]]:
    """Yields (entry, bitmap of its subclusters) for L2 entries that may point past the end of a file of `size` bytes."""
    find = _near_in_few if len(tables) <= _FEW_TABLES else _near_in_many
    least = max(0, size - header.cluster_size)
    step = header.l2_entry_size // WORD_BYTES
    for offset in tables:
        data = file.pread(offset, header.cluster_size)
        near = find(data, header, least)
        words = unpacked(data) if near else array("Q")
        for index in near:
            yield words[index * step], words[index * step + 1] if step == 2 else layout.ALL_SUBCLUSTERS


def _near_in_few(data: bytes, header: Header, least: int) -> list[int]:
    """Returns the indexes of a table's entries that point past `least`, or to compressed data up to a cluster before it."""
    words = unpacked(data)[:: header.l2_entry_size // WORD_BYTES]
    packed, mask, near = layout.COMPRESSED_FLAG, _compressed_offset_mask(header), max(0, least - header.cluster_size)
    return [
        index
        for index, word in enumerate(words)
        if word and (word & mask > near if word & packed else word & layout.L2_OFFSET_MASK > least)
    ]


def _near_in_many(data: bytes, header: Header, least: int) -> list[int]:
    """Returns what `_near_in_few` does, with numpy."""
    import numpy as np

    words = np.frombuffer(data, ">u8")[:: header.l2_entry_size // WORD_BYTES].astype(np.uint64)
    packed = (words & np.uint64(layout.COMPRESSED_FLAG)) != 0
    begin = words & np.where(packed, np.uint64(_compressed_offset_mask(header)), np.uint64(layout.L2_OFFSET_MASK))
    found: list[int] = np.flatnonzero(
        begin > np.where(packed, np.uint64(max(0, least - header.cluster_size)), np.uint64(least))
    ).tolist()
    return found


def _compressed_offset_mask(header: Header) -> int:
    return (1 << 62 - (header.cluster_bits - 8)) - 1


def _range_of_entry(header: Header, word: int, subclusters: int) -> tuple[int, int]:
    """Returns [begin, end) of the file that QEMU reads for an L2 entry; `end` is 0 or `begin` if it reads zeros or the base."""
    if word & layout.COMPRESSED_FLAG:
        mask = _compressed_offset_mask(header)
        begin, sectors = word & mask, ((word & layout.COMPRESSED_FLAG - 1) >> mask.bit_length()) + 1
        return begin, begin // layout.COMPRESSED_SECTOR * layout.COMPRESSED_SECTOR + sectors * layout.COMPRESSED_SECTOR
    begin = word & layout.L2_OFFSET_MASK
    if not begin or (word & layout.ZERO_FLAG and not header.extended_l2):
        return begin, 0
    used = (subclusters & layout.ALL_SUBCLUSTERS).bit_length() if header.extended_l2 else 1
    return begin, begin + used * header.subcluster_size


def _is_complete(file: HostFile, header: Header, word: int, begin: int, size: int) -> bool:
    """Returns whether a compressed cluster is complete although the file ends in its last sector: entries count whole sectors."""
    if not word & layout.COMPRESSED_FLAG or begin >= size:
        return False
    from cowherd.formats.qcow2.compression import CodecError, codec

    try:
        codec(header.compression).decompress(file.pread(begin, min(size - begin, 2 * header.cluster_size)), header.cluster_size)
    except CodecError:
        return False
    return True
