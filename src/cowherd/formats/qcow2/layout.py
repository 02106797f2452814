"""qcow2's fixed on-disk structures, declared once (QEMU docs/interop/qcow2, sections in brackets).

Each structure is a table of fields with offset, width and meaning; reading and writing both come from it. All numbers are
big-endian.
"""

from __future__ import annotations

import struct

from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = b"QFI\xfb"


class Field(NamedTuple):
    """One number or byte string: its name, byte offset in the structure, struct code and meaning."""

    name: str
    offset: int
    code: str
    meaning: str


class Structure:
    """A run of adjacent fields. `size` is its length in bytes."""

    def __init__(self, *fields: Field):
        self.fields = fields
        self.names = tuple(field.name for field in fields)
        self._struct = struct.Struct(">" + "".join(field.code for field in fields))
        self.size = self._struct.size
        self._check_offsets(fields)

    @staticmethod
    def _check_offsets(fields: tuple[Field, ...]) -> None:
        position = fields[0].offset
        for field in fields:
            if field.offset != position:
                raise AssertionError(f"{field.name} is declared at {field.offset}, but follows at {position}")
            position += struct.calcsize(">" + field.code)

    def unpack(self, data: bytes, offset: int = 0) -> dict[str, int]:
        """Returns the fields by name; `data` must hold `size` bytes from `offset` on."""
        return dict(zip(self.names, self._struct.unpack_from(data, offset), strict=True))

    def pack(self, values: Mapping[str, int]) -> bytes:
        """Returns the `size` bytes of the structure; `values` must hold every field and may hold others."""
        return self._struct.pack(*(values[name] for name in self.names))


# [Header]
HEADER = Structure(
    Field("version", 4, "I", "2 or 3"),
    Field("backing_file_offset", 8, "Q", "file offset of the backing file name, 0 if there is none"),
    Field("backing_file_size", 16, "I", "length of the backing file name in bytes"),
    Field("cluster_bits", 20, "I", "log2 of the cluster size"),
    Field("size", 24, "Q", "virtual size in bytes"),
    Field("crypt_method", 32, "I", "0 none, 1 AES, 2 LUKS"),
    Field("l1_size", 36, "I", "entries in the active L1 table"),
    Field("l1_table_offset", 40, "Q", "file offset of the active L1 table"),
    Field("refcount_table_offset", 48, "Q", "file offset of the refcount table"),
    Field("refcount_table_clusters", 56, "I", "clusters that the refcount table occupies"),
    Field("nb_snapshots", 60, "I", "internal snapshots"),
    Field("snapshots_offset", 64, "Q", "file offset of the snapshot table"),
)
V2_HEADER_LENGTH = 72

# [Header], version 3
HEADER_V3 = Structure(
    Field("incompatible", 72, "Q", "features that a reader must know"),
    Field("compatible", 80, "Q", "features that a reader may ignore"),
    Field("autoclear", 88, "Q", "features whose bit a writer that does not know them must clear"),
    Field("refcount_order", 96, "I", "log2 of the refcount width in bits"),
    Field("header_length", 100, "I", "bytes of this header"),
)
V3_HEADER_LENGTH = 104
COMPRESSION_TYPE_OFFSET = 104
"""[Additional fields]: one byte, present if `header_length` is larger than this."""

# [Header extensions]
EXTENSION = Structure(
    Field("type", 0, "I", "what the extension holds"),
    Field("length", 4, "I", "bytes of data that follow, without the padding to a multiple of 8"),
)
EXTENSION_END = 0x00000000
EXTENSION_BACKING_FORMAT = 0xE2792ACA
EXTENSION_FEATURE_NAMES = 0x6803F857
EXTENSION_BITMAPS = 0x23852875
EXTENSION_ENCRYPTION = 0x0537BE77
EXTENSION_DATA_FILE = 0x44415441

# [Header], feature bits
INCOMPATIBLE_DIRTY = 1 << 0
INCOMPATIBLE_CORRUPT = 1 << 1
INCOMPATIBLE_DATA_FILE = 1 << 2
INCOMPATIBLE_COMPRESSION = 1 << 3
INCOMPATIBLE_EXTENDED_L2 = 1 << 4
INCOMPATIBLE_KNOWN = (1 << 5) - 1
COMPATIBLE_LAZY_REFCOUNTS = 1 << 0
AUTOCLEAR_BITMAPS = 1 << 0
AUTOCLEAR_DATA_FILE_RAW = 1 << 1
AUTOCLEAR_KNOWN = (1 << 2) - 1

# [Feature name table]: (feature set, bit, name), the names as QEMU writes them
FEATURE_NAMES = (
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
)
FEATURE_NAME_ENTRY = struct.Struct(">BB46s")

# [Cluster mapping]
L1_ENTRY_BYTES = 8
L1_OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
L2_OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
COPIED = 1 << 63
"""The cluster's refcount is exactly 1: it may be written in place."""
COMPRESSED_FLAG = 1 << 62
ZERO_FLAG = 1 << 0
REFCOUNT_OFFSET_MASK = 0xFFFF_FFFF_FFFF_FE00
COMPRESSED_SECTOR = 512

# [Extended L2 Entries]
SUBCLUSTERS = 32
ALL_SUBCLUSTERS = (1 << SUBCLUSTERS) - 1

# QEMU's implementation limits (block/qcow2.h)
MIN_CLUSTER_BITS = 9
MAX_CLUSTER_BITS = 21
MIN_EXTENDED_L2_CLUSTER_BITS = 14
MAX_L1_BYTES = 32 << 20
MAX_REFCOUNT_TABLE_BYTES = 8 << 20
MAX_REFCOUNT_ORDER = 6
MAX_SNAPSHOTS = 65536
MAX_BACKING_NAME = 1023

COMPRESSION_NAMES = ("zlib", "zstd")
