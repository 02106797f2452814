"""The qcow2 header: the first cluster of the file, read with every number checked, and written back whole.

Specification: QEMU docs/interop/qcow2, sections Header, Header extensions, Feature name table.
"""

from __future__ import annotations

import os

from cowherd.errors import ImageFormatError, InvalidRequest, UnsupportedFeature
from cowherd.formats.qcow2 import layout
from cowherd.formats.reference import BackingReference
from cowherd.sizes import SECTOR
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cowherd.storage.blocks import BlockFile
    from cowherd.urls import Url

FIRST_READ = 4096
"""Bytes into which nearly every header fits."""


class Extension(NamedTuple):
    """A header extension: its type and its data without padding."""

    type: int
    data: bytes


class Header(NamedTuple):
    """The facts of a qcow2 header. Offsets are file offsets in bytes, `size` is the virtual size in bytes.

    `tail` holds the header's bytes after the fields known here, to be written back as they were. `backing_name` is None
    without a backing file; bytes that are not UTF-8 are kept by surrogate escapes.
    """

    version: int
    cluster_bits: int
    size: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int = 0
    snapshots_offset: int = 0
    crypt_method: int = 0
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    compression_type: int = 0
    header_length: int = layout.V3_HEADER_LENGTH + 8
    backing_name: str | None = None
    extensions: tuple[Extension, ...] = ()
    tail: bytes = b""

    @property
    def disk_size(self) -> int:
        """Virtual size in bytes: QEMU counts whole sectors only."""
        return self.size // SECTOR * SECTOR

    @property
    def cluster_size(self) -> int:
        """Bytes of a cluster."""
        return 1 << self.cluster_bits

    @property
    def dirty(self) -> bool:
        """Refcounts may be wrong: the last writer used lazy refcounts and did not close the image."""
        return bool(self.incompatible & layout.INCOMPATIBLE_DIRTY)

    @property
    def corrupt(self) -> bool:
        """A program found the image's tables broken: the image must not be written to."""
        return bool(self.incompatible & layout.INCOMPATIBLE_CORRUPT)

    @property
    def external_data_file(self) -> bool:
        """Guest data lies in another file."""
        return bool(self.incompatible & layout.INCOMPATIBLE_DATA_FILE)

    @property
    def data_file_name(self) -> str | None:
        """The name of the external data file as stored, or None."""
        data = self.extension(layout.EXTENSION_DATA_FILE)
        return None if data is None else os.fsdecode(data)

    @property
    def extended_l2(self) -> bool:
        """L2 entries have a subcluster bitmap."""
        return bool(self.incompatible & layout.INCOMPATIBLE_EXTENDED_L2)

    @property
    def lazy_refcounts(self) -> bool:
        """Writers may postpone refcount updates, with the dirty bit set meanwhile."""
        return bool(self.compatible & layout.COMPATIBLE_LAZY_REFCOUNTS)

    @property
    def refcount_bits(self) -> int:
        """Width of a refcount in bits."""
        return 1 << self.refcount_order

    @property
    def compression(self) -> str:
        """The codec of compressed clusters, "zlib" or "zstd"."""
        return layout.COMPRESSION_NAMES[self.compression_type]

    @property
    def l2_entry_size(self) -> int:
        """Bytes of an L2 entry: 16 with extended L2 entries, 8 without."""
        return 16 if self.extended_l2 else 8

    @property
    def l2_entries(self) -> int:
        """Entries of an L2 table, one for each guest cluster."""
        return self.cluster_size // self.l2_entry_size

    @property
    def subcluster_size(self) -> int:
        """Bytes of the unit of allocation: a subcluster, or a cluster without extended L2 entries."""
        return self.cluster_size // layout.SUBCLUSTERS if self.extended_l2 else self.cluster_size

    @property
    def backing_format(self) -> str | None:
        """The recorded format of the backing file, or None."""
        data = self.extension(layout.EXTENSION_BACKING_FORMAT)
        return None if data is None else data.decode("utf-8", "surrogateescape")

    @property
    def backing(self) -> BackingReference | None:
        """The backing file as the image names it, or None."""
        return None if self.backing_name is None else BackingReference(self.backing_name, self.backing_format)

    def extension(self, kind: int) -> bytes | None:
        """Returns the data of the last extension of type `kind`, which is the one that QEMU uses; or None."""
        return _last(self.extensions, kind)

    def with_extension(self, kind: int, data: bytes | None) -> Header:
        """Returns this header with the extension of type `kind` set to `data`, or without it if that is None."""
        kept = [extension for extension in self.extensions if extension.type != kind]
        if data is not None:
            before = [index for index, extension in enumerate(self.extensions) if extension.type == kind]
            kept.insert(before[0] if before else len(kept), Extension(kind, data))
        return self._replace(extensions=tuple(kept))

    def with_backing(self, reference: BackingReference | None) -> Header:
        """Returns this header with another backing file's name, or without one."""
        name, recorded = (reference.name, reference.format) if reference else (None, None)
        data = recorded.encode("utf-8", "surrogateescape") if recorded else None
        return self.with_extension(layout.EXTENSION_BACKING_FORMAT, data)._replace(backing_name=name)

    def pack(self) -> bytes:
        """Returns the header area: header, extensions and backing file name; the rest of the cluster is zeros.

        Raises `InvalidRequest` if it does not fit in one cluster, or the backing file name is too long.
        """
        fixed_length = layout.V2_HEADER_LENGTH if self.version == 2 else self.header_length
        extensions = b"".join(map(_pack_extension, self._extensions_to_write()))
        name = b"" if self.backing_name is None else self.backing_name.encode("utf-8", "surrogateescape")
        name_offset = fixed_length + len(extensions) if name else 0
        if len(name) > layout.MAX_BACKING_NAME or fixed_length + len(extensions) + len(name) > self.cluster_size:
            raise InvalidRequest("Backing file name too long" if name else "the header extensions do not fit in one cluster")
        values = self._asdict() | {"backing_file_offset": name_offset, "backing_file_size": len(name)}
        area = layout.MAGIC + layout.HEADER.pack(values)
        if self.version >= 3:
            area += layout.HEADER_V3.pack(values)
            if self.header_length > layout.COMPRESSION_TYPE_OFFSET:
                area += bytes([self.compression_type]) + self.tail.ljust(self.header_length - len(area) - 1, b"\0")
        return area + extensions + name

    def _extensions_to_write(self) -> tuple[Extension, ...]:
        end = Extension(layout.EXTENSION_END, b"")
        # A version 2 header is followed by extensions only if there are any: old readers look for the name right behind it.
        return (*self.extensions, end) if self.extensions or self.version >= 3 else ()


def feature_name_table() -> Extension:
    """Returns the feature name table with the features that are known here."""
    rows = (layout.FEATURE_NAME_ENTRY.pack(kind, bit, name.encode()) for kind, bit, name in layout.FEATURE_NAMES)
    return Extension(layout.EXTENSION_FEATURE_NAMES, b"".join(rows))


def read_header(file: BlockFile) -> Header:
    """Reads and checks the header of a qcow2 image.

    No number in it is used for an allocation or a seek before it has been found to be within the format's limits.
    Raises `ImageFormatError`, or `UnsupportedFeature` for an unknown incompatible feature.
    """
    return parse_header(file.name, file.pread(0, FIRST_READ), lambda length: file.pread(0, length))


def parse_header(path: str | Url, area: bytes, more: Callable[[int], bytes]) -> Header:
    """Does what `read_header` does with the first `FIRST_READ` bytes of a file, or all of a shorter one.

    `more(length)` returns the first `length` bytes of the file. `path` is for messages alone.
    """
    return _Parser(path, area, more).parse()


def write_header(file: BlockFile, header: Header) -> None:
    """Replaces the header area; callers flush before and after, as the order of their change demands.

    A write that ends between two sectors must not leave half a header. So a changed header goes into the first sector, which is
    written whole or not at all. If it does not fit, the feature name table is dropped, which only names features for programs
    that do not know them. A header that is still longer (a base's name of about 300 bytes) is one write, as QEMU's are.
    """
    area = header.pack()
    if file.size() < layout.V2_HEADER_LENGTH or file.pread(0, len(layout.MAGIC)) != layout.MAGIC:  # a new image
        file.pwrite(0, area.ljust(header.cluster_size, b"\0"))
        return
    if len(area) > SECTOR:
        shorter = header.with_extension(layout.EXTENSION_FEATURE_NAMES, None).pack()
        area = shorter if len(shorter) <= SECTOR else area
    before, now = (-(-length // SECTOR) * SECTOR for length in (len(read_header(file).pack()), len(area)))
    file.pwrite(0, area.ljust(now, b"\0"))
    if before > now:  # the rest of an older, longer header goes only when the new one is durable
        file.flush()
        file.pwrite(now, bytes(before - now))


def _last(extensions: tuple[Extension, ...], kind: int) -> bytes | None:
    return next((extension.data for extension in reversed(extensions) if extension.type == kind), None)


def _pack_extension(extension: Extension) -> bytes:
    head = layout.EXTENSION.pack({"type": extension.type, "length": len(extension.data)})
    return head + extension.data + bytes(-len(extension.data) % 8)


class _Parser:
    def __init__(self, path: str | Url, area: bytes, more: Callable[[int], bytes]):
        self.path, self.area, self.more = path, area, more

    def parse(self) -> Header:
        values = self._fixed_fields()
        self._check_features(values)
        self._check_tables(values)
        name = self._backing_name(values)
        extensions = self._extensions(values)
        tail_start = layout.COMPRESSION_TYPE_OFFSET + 1
        tail = self._bytes(tail_start, values["header_length"]) if values["header_length"] > tail_start else b""
        known = {key: value for key, value in values.items() if key not in ("backing_file_offset", "backing_file_size")}
        return Header(backing_name=name, extensions=extensions, tail=tail, **known)

    def _fixed_fields(self) -> dict[str, int]:
        if self.area[:4] != layout.MAGIC:
            raise self._invalid("Image is not in qcow2 format")
        values = layout.HEADER.unpack(self.area, 4)
        if values["version"] not in (2, 3):
            raise UnsupportedFeature(self.path, f"qcow2 version {values['version']}")
        if not layout.MIN_CLUSTER_BITS <= values["cluster_bits"] <= layout.MAX_CLUSTER_BITS:
            raise self._invalid(f"Unsupported cluster size: 2^{values['cluster_bits']}")
        defaults = {"incompatible": 0, "compatible": 0, "autoclear": 0, "refcount_order": 4}
        values |= defaults | {"header_length": layout.V2_HEADER_LENGTH, "compression_type": 0}
        if values["version"] >= 3:
            values |= layout.HEADER_V3.unpack(self.area, layout.V2_HEADER_LENGTH)
            self._check_length(values)
            if values["header_length"] > layout.COMPRESSION_TYPE_OFFSET:
                values["compression_type"] = self.area[layout.COMPRESSION_TYPE_OFFSET]
        return values

    def _check_length(self, values: dict[str, int]) -> None:
        length = values["header_length"]
        if length < layout.V3_HEADER_LENGTH:
            raise self._invalid("qcow2 header too short")
        if length > 1 << values["cluster_bits"]:
            raise self._invalid("qcow2 header exceeds cluster size")
        if length % 8:
            raise self._invalid(f"qcow2 header length {length} is not a multiple of 8")

    def _check_features(self, values: dict[str, int]) -> None:
        unknown = values["incompatible"] & ~layout.INCOMPATIBLE_KNOWN
        if unknown:
            raise UnsupportedFeature(self.path, f"qcow2 feature(s) {self._feature_names(values, unknown)}")
        if bool(values["incompatible"] & layout.INCOMPATIBLE_COMPRESSION) != bool(values["compression_type"]):
            raise self._invalid("the compression type bit and the compression type field contradict each other")
        if values["compression_type"] >= len(layout.COMPRESSION_NAMES):
            raise UnsupportedFeature(self.path, f"compression type {values['compression_type']}")
        extended = values["incompatible"] & layout.INCOMPATIBLE_EXTENDED_L2
        if extended and values["cluster_bits"] < layout.MIN_EXTENDED_L2_CLUSTER_BITS:
            raise self._invalid("clusters are too small for extended L2 entries (at least 16 KiB)")
        if values["refcount_order"] > layout.MAX_REFCOUNT_ORDER:
            raise self._invalid("Reference count entry width too large; may not exceed 64 bits")
        if values["crypt_method"] > 2:
            raise UnsupportedFeature(self.path, f"encryption method {values['crypt_method']}")

    def _feature_names(self, values: dict[str, int], unknown: int) -> str:
        table = _last(self._extensions(values), layout.EXTENSION_FEATURE_NAMES) or b""
        table = table[: len(table) // layout.FEATURE_NAME_ENTRY.size * layout.FEATURE_NAME_ENTRY.size]
        rows = layout.FEATURE_NAME_ENTRY.iter_unpack(table)
        names = {bit: name.rstrip(b"\0").decode("utf-8", "replace") for kind, bit, name in rows if kind == 0}
        bits = (bit for bit in range(64) if unknown >> bit & 1)
        return ", ".join(ascii(names[bit]).strip("'") if bit in names else f"unknown incompatible bit {bit}" for bit in bits)

    def _check_tables(self, values: dict[str, int]) -> None:
        cluster_size = 1 << values["cluster_bits"]
        entry_size = 16 if values["incompatible"] & layout.INCOMPATIBLE_EXTENDED_L2 else 8
        reach_of_l1_entry = cluster_size // entry_size * cluster_size
        if values["l1_size"] * 8 > layout.MAX_L1_BYTES:
            raise self._invalid("Active L1 table too large")
        if values["size"] > values["l1_size"] * reach_of_l1_entry:
            raise self._invalid("L1 table is too small")
        if values["refcount_table_clusters"] * cluster_size > layout.MAX_REFCOUNT_TABLE_BYTES:
            raise self._invalid("Reference count table too large")
        if not values["refcount_table_clusters"]:
            raise self._invalid("Image does not contain a reference count table")
        if values["nb_snapshots"] > layout.MAX_SNAPSHOTS:
            raise self._invalid("Snapshot table too large")
        self._check_offset("Active L1 table", values["l1_table_offset"], cluster_size, used=bool(values["l1_size"]))
        self._check_offset("Reference count table", values["refcount_table_offset"], cluster_size, used=True)
        self._check_offset("Snapshot table", values["snapshots_offset"], cluster_size, used=bool(values["nb_snapshots"]))

    def _check_offset(self, what: str, offset: int, cluster_size: int, *, used: bool) -> None:
        if used and (offset % cluster_size or not cluster_size <= offset < 1 << 56):
            raise self._invalid(f"{what} offset invalid")

    def _backing_name(self, values: dict[str, int]) -> str | None:
        offset, length = values["backing_file_offset"], values["backing_file_size"]
        if not offset:
            return None
        cluster_size = 1 << values["cluster_bits"]
        if offset > cluster_size or offset < values["header_length"]:
            raise self._invalid("Invalid backing file offset")
        if length > min(layout.MAX_BACKING_NAME, cluster_size - offset):
            raise self._invalid("Backing file name too long")
        name = self._bytes(offset, offset + length)
        if b"\0" in name:
            raise self._invalid("the backing file name holds a zero byte")
        return name.decode("utf-8", "surrogateescape") or None

    def _extensions(self, values: dict[str, int]) -> tuple[Extension, ...]:
        position = values["header_length"]
        limit = min(values["backing_file_offset"] or 1 << values["cluster_bits"], 1 << values["cluster_bits"])
        found: list[Extension] = []
        while position + layout.EXTENSION.size <= limit:
            head = layout.EXTENSION.unpack(self._bytes(position, position + layout.EXTENSION.size))
            if head["type"] == layout.EXTENSION_END:
                break
            position += layout.EXTENSION.size
            if head["length"] > limit - position:
                raise self._invalid("Header extension too large")
            found.append(Extension(head["type"], self._bytes(position, position + head["length"])))
            position += -(-head["length"] // 8) * 8
        return tuple(found)

    def _bytes(self, start: int, end: int) -> bytes:
        if end > len(self.area):
            self.area = self.more(1 << max(end - 1, 1).bit_length())
        return self.area[start:end]

    def _invalid(self, problem: str) -> ImageFormatError:
        return ImageFormatError(self.path, problem)
