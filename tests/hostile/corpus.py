"""Hand-made hostile images in named categories, generated from sound ones; `python -m tests.hostile.corpus DIR` writes them all.

A case takes a small image apart by name: fields of the header, entries of the tables.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.bitmaps import ENTRY as BITMAP
from cowherd.formats.qcow2.bitmaps import EXTENSION as BITMAPS
from cowherd.formats.qcow2.descriptor import compressed_word
from cowherd.formats.qcow2.snapshots import ENTRY as SNAPSHOT
from cowherd.image.open import open_disk
from tests.images import Features, create_with_cowherd

KIB, MIB = 1 << 10, 1 << 20
COPIED, COMPRESSED = 1 << 63, 1 << 62
CLUSTER = 64 * KIB
SIZE = 2 * MIB
MANY_SNAPSHOTS = 65536 if os.environ.get("COWHERD_CORPUS") == "all" else 4096
"""As many as QEMU allows, which take seconds to look through; in the tests' usual run fewer."""
FIELDS = {field.name: field for field in (*layout.HEADER.fields, *layout.HEADER_V3.fields)}


class Image:
    """The bytes of one image, and where its tables lie. `length` is the file's, which may be sparse behind the bytes."""

    def __init__(self, content: bytes, places: dict[str, int]):
        self.data, self.places = bytearray(content), places
        self.length = len(content)

    def __getitem__(self, name: str) -> int:
        return self.places[name]

    def field(self, name: str, value: int) -> None:
        """Sets a field of the header."""
        width = struct.calcsize(">" + FIELDS[name].code)
        self.put(FIELDS[name].offset, (value % (1 << 8 * width)).to_bytes(width, "big"))

    def put(self, offset: int, data: bytes) -> None:
        """Overwrites bytes, after zeros where the file is shorter."""
        self.data.extend(bytes(max(0, offset + len(data) - len(self.data))))
        self.data[offset : offset + len(data)] = data
        self.length = max(self.length, len(self.data))

    def word(self, offset: int, value: int) -> None:
        """Sets one table entry."""
        self.put(offset, struct.pack(">Q", value))

    def extensions(self, *found: tuple[int, bytes]) -> int:
        """Replaces the header extensions; returns where they end."""
        area = b"".join(struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8) for kind, data in found)
        self.put(112, area + bytes(16))
        return 112 + len(area) + 8

    def backing(self, name: bytes, *found: tuple[int, bytes]) -> None:
        """Gives the image a backing file."""
        end = self.extensions(*found)
        self.put(end, name)
        self.field("backing_file_offset", end)
        self.field("backing_file_size", len(name))

    def append(self, data: bytes = b"") -> int:
        """Adds a cluster or more behind the file's end, counted as used; returns its offset."""
        offset = -(-len(self.data) // CLUSTER) * CLUSTER
        self.put(offset, data + bytes(-len(data) % CLUSTER or (0 if data else CLUSTER)))
        for cluster in range(offset // CLUSTER, len(self.data) // CLUSTER):
            self.put(self["refcount block"] + 2 * cluster, b"\0\1")
        return offset

    def cut(self, length: int) -> None:
        """Ends the file early."""
        del self.data[length:]
        self.length = length

    def write(self, path: Path) -> Path:
        """Writes the image."""
        with path.open("wb") as file:
            file.write(self.data)
            file.truncate(self.length)
        return path


@cache
def _seed(features: Features) -> tuple[bytes, tuple[tuple[str, int], ...]]:
    with tempfile.TemporaryDirectory() as folder:
        path = create_with_cowherd(Path(folder) / "seed.qcow2", features, SIZE)
        with open_disk(path, format="qcow2", writable=True) as disk:
            disk.write(0, b"seed" * 40 * KIB)
            disk.write_compressed(SIZE // 2, (b"compressed" * SIZE)[: 4 * CLUSTER])
        with open_disk(path, format="qcow2") as disk:
            layer = disk.layers[0]
            header = layer.header
            places = {"L1": header.l1_table_offset, "L2": layer._tables.l2_offset(0)}
            places["refcount table"] = header.refcount_table_offset
        content = path.read_bytes()
        (places["refcount block"],) = struct.unpack_from(">Q", content, places["refcount table"])
        places["data"] = struct.unpack_from(">Q", content, places["L2"])[0] & layout.L2_OFFSET_MASK
        places["compressed"] = SIZE // 2 // CLUSTER * 8 + places["L2"]
        return content, tuple(places.items())


def seed(features: Features | None = None) -> Image:
    """A sound image with plain and compressed data in 64 KiB clusters."""
    content, places = _seed(features or Features())
    return Image(content, dict(places))


@dataclass(frozen=True)
class Case:
    """One hostile image. `format` is what its sender says it is."""

    category: str
    name: str
    spoil: Callable[[Image], object]
    features: Features | None = None
    format: str = "qcow2"

    def __str__(self) -> str:
        return f"{self.category}: {self.name}"

    def write(self, path: Path) -> Path:
        """Generates the image."""
        image = seed(self.features)
        self.spoil(image)
        return image.write(path)


def _field(category: str, name: str, *values: int) -> Iterator[Case]:
    for value in values:
        yield Case(category, f"{name} {value:#x}", lambda image, value=value: image.field(name, value))


def numbers() -> Iterator[Case]:
    """Header numbers that the format does not allow, many of them made to overflow something."""
    kind = "header numbers"
    yield from _field(kind, "version", 0, 1, 4, 2**32 - 1)
    yield from _field(kind, "cluster_bits", 0, 8, 22, 31, 63, 64, 2**32 - 1)
    yield from _field(kind, "size", 2**62, 2**63 - 1, 2**63, 2**64 - 1)
    yield from _field(kind, "l1_size", 0, 2**22 + 1, 2**29, 2**31, 2**32 - 1)
    yield from _field(kind, "crypt_method", 3, 2**32 - 1)
    yield from _field(kind, "refcount_order", 7, 31, 32, 2**32 - 1)
    yield from _field(kind, "header_length", 0, 96, 103, 105, CLUSTER + 8, 2**32 - 8)
    yield from _field(kind, "refcount_table_clusters", 0, 129, 2**16, 2**32 - 1)
    yield from _field(kind, "nb_snapshots", 65537, 2**31, 2**32 - 1)
    for number in (1, 2, 255):
        yield Case(kind, f"compression type {number} without its bit", lambda image, n=number: image.put(104, bytes([n])))


def places() -> Iterator[Case]:
    """Tables that begin where no table can be."""
    kind = "table places"
    ends = (0, 1, 512, 8 * KIB, 2**40, 2**56, 2**63, 2**64 - CLUSTER)
    yield from _field(kind, "l1_table_offset", *ends)
    yield from _field(kind, "refcount_table_offset", *ends)
    for offset in (0, 512, 2**40, 2**64 - CLUSTER):
        yield Case(kind, f"snapshots at {offset:#x}", lambda image, o=offset: _snapshots_at(image, o))
    yield Case(kind, "L1 in the refcount table", lambda image: image.field("l1_table_offset", image["refcount table"]))
    yield Case(kind, "L1 in an L2 table", lambda image: image.field("l1_table_offset", image["L2"]))
    yield Case(kind, "refcount table in L1", lambda image: image.field("refcount_table_offset", image["L1"]))
    yield Case(kind, "snapshots in L1", lambda image: _snapshots_at(image, image["L1"]))


def _snapshots_at(image: Image, offset: int) -> None:
    image.field("nb_snapshots", 1)
    image.field("snapshots_offset", offset)


def features() -> Iterator[Case]:
    """Feature bits that nobody knows, or that contradict the rest."""
    kind = "features"
    for bit in (1, 2, 3, 5, 6, 8, 31, 63):
        yield Case(kind, f"incompatible bit {bit}", lambda image, bit=bit: image.field("incompatible", 1 << bit))
    small = Features(4 * KIB)
    yield Case(kind, "subclusters of 128 bytes", lambda image: image.field("incompatible", 16), small)
    yield Case(kind, "encrypted with AES", lambda image: image.field("crypt_method", 1))
    yield Case(kind, "LUKS without a header", lambda image: image.field("crypt_method", 2))


def extensions() -> Iterator[Case]:
    """Header extensions that leave their place, or say things twice."""
    kind = "extensions"
    for length in (2**16, 2**31 - 1, 2**31, 2**32 - 7, 2**32 - 1):
        head = struct.pack(">II", 0x12345678, length)
        yield Case(kind, f"of {length} bytes", lambda image, head=head: image.put(112, head))
    backing = (layout.EXTENSION_BACKING_FORMAT, b"raw")
    yield Case(kind, "two backing formats", lambda image: image.extensions(backing, backing))
    data = (layout.EXTENSION_DATA_FILE, b"/etc/passwd")
    yield Case(kind, "two data files", lambda image: image.extensions(data, data))
    many = [(0x11111111, b"")] * 1000
    yield Case(kind, "one that runs into the name", lambda image: (image.backing(b"x", *many), image.put(112 + 7, b"\xff")))


NAMES: dict[str, bytes] = {
    "absolute": b"/etc/passwd",
    "climbing": b"../../../../etc/shadow",
    "JSON": b'json:{"driver":"file","filename":"/etc/passwd"}',
    "NBD": b"nbd://127.0.0.1:10809/x",
    "HTTP": b"http://127.0.0.1/x",
    "file scheme": b"file:/etc/passwd",
    "host device": b"host_device:/dev/sda",
    "device": b"/dev/zero",
    "process": b"/proc/self/mem",
    "zero byte": b"good.qcow2\0/etc/passwd",
    "newline and escape": b"a\n\x1b[2J\x1b]0;owned\x07b",
    "not UTF-8": b"\xff\xfe\x80",
    "empty": b"",
    "too long": b"x" * 1024,
}


def names() -> Iterator[Case]:
    """Backing files and data files."""
    for name, value in NAMES.items():
        raw = (layout.EXTENSION_BACKING_FORMAT, b"raw")
        yield Case("backing files", name, lambda image, value=value, raw=raw: image.backing(value, raw))
        yield Case("data files", name, lambda image, value=value: _data_file(image, value))
    for offset in (1, 64, 111, CLUSTER - 2, CLUSTER, 2**40, 2**64 - 1):
        yield Case("backing files", f"name at {offset:#x}", lambda image, o=offset: _name_at(image, o))
    other = (layout.EXTENSION_BACKING_FORMAT, b"vmdk")
    yield Case("backing files", "VMDK", lambda image: image.backing(b"disk.vmdk", other))
    long = (layout.EXTENSION_BACKING_FORMAT, b"q" * 4096)
    yield Case("backing files", "long format", lambda image: image.backing(b"base", long))


def _data_file(image: Image, name: bytes) -> None:
    image.field("incompatible", layout.INCOMPATIBLE_DATA_FILE)
    image.extensions((layout.EXTENSION_DATA_FILE, name))


def _name_at(image: Image, offset: int) -> None:
    image.field("backing_file_offset", offset)
    image.field("backing_file_size", 8)


def bitmaps() -> Iterator[Case]:
    """Bitmap directories; allowed by the policy in the test, so that their numbers are what is refused."""
    kind = "bitmaps"
    for number, size, offset in (
        (0, 32, None),
        (65536, 2 * MIB, None),
        (2**32 - 1, 2 * MIB, None),
        (1, 0, None),
        (1, 2**63, None),
        (1, 2**64 - 1, None),
        (1, 65 * MIB, None),
        (1, 32, 0),
        (1, 32, 512),
        (1, 32, 2**40),
        (1, 32, 2**63),
        (1000, 40, None),
    ):
        yield Case(kind, f"{number} of {size} bytes at {offset}", lambda i, n=number, s=size, o=offset: _bitmaps(i, n, s, o))
    for field, value in (
        ("table_offset", 0),
        ("table_offset", 1),
        ("table_offset", 2**40),
        ("table_size", 0),
        ("table_size", 2**32 - 1),
        ("granularity_bits", 8),
        ("granularity_bits", 255),
        ("name_length", 65535),
        ("extra_length", 2**32 - 1),
        ("type", 2),
        ("flags", 2**32 - 1),
    ):
        yield Case(kind, f"{field} {value:#x}", lambda image, f=field, v=value: _bitmap(image, f, v))
    yield Case(kind, "table in L1", lambda image: _bitmap(image, "table_offset", image["L1"]))


def _bitmaps(image: Image, number: int, size: int, offset: int | None) -> None:
    place = image.append() if offset is None else offset
    values = {"nb_bitmaps": number, "reserved": 0, "directory_size": size, "directory_offset": place}
    image.extensions((layout.EXTENSION_BITMAPS, BITMAPS.pack(values)))
    image.field("autoclear", layout.AUTOCLEAR_BITMAPS)


def _bitmap(image: Image, field: str, value: int) -> None:
    table, directory = image.append(), image.append()
    entry = {"table_offset": table, "table_size": 1, "flags": 0, "type": 1}
    entry |= {"granularity_bits": 16, "name_length": 1, "extra_length": 0, field: value}
    image.put(directory, BITMAP.pack(entry) + b"b")
    _bitmaps(image, 1, 32, directory)


def snapshots() -> Iterator[Case]:
    """Snapshot tables; allowed by the policy in the test too."""
    kind = "snapshots"
    for field, value in (
        ("l1_offset", 1),
        ("l1_offset", 2**40),
        ("l1_offset", 2**64 - CLUSTER),
        ("l1_size", 2**22 + 1),
        ("l1_size", 2**32 - 1),
        ("extra_length", 1025),
        ("extra_length", 2**32 - 1),
    ):
        yield Case(kind, f"{field} {value:#x}", lambda image, f=field, v=value: _snapshot(image, {f: v}))
    yield Case(kind, "in the header", lambda image: _snapshot(image, {"l1_offset": 0}))
    yield Case(kind, "in the active L1", lambda image: _snapshot(image, {"l1_offset": image["L1"]}))
    yield Case(kind, "many of one table", lambda image: _snapshot(image, {}, MANY_SNAPSHOTS))
    yield Case(kind, "many of a full table", lambda image: _snapshot(image, {"l1_size": 8192}, MANY_SNAPSHOTS))
    yield Case(kind, "more than there are", lambda image: (_snapshot(image, {}), image.field("nb_snapshots", 60000)))


def _snapshot(image: Image, changes: dict[str, int], number: int = 1) -> None:
    entry = dict.fromkeys(SNAPSHOT.names, 0) | {"l1_offset": image.append(), "l1_size": 1, "extra_length": 16} | changes
    packed = SNAPSHOT.pack(entry) + bytes(16)
    _snapshots_at(image, image.append((packed + bytes(-len(packed) % 8)) * number))
    image.field("nb_snapshots", number)


def _targets(image: Image) -> dict[str, int]:
    return {"header": 0} | {name: image[name] for name in ("L1", "L2", "refcount table", "refcount block")}


WORDS = {"past the end": 2**40, "far past the end": 2**55, "misaligned": 5 * CLUSTER + 512, "reserved bits": 5 * CLUSTER | 2**60}
TABLES = ("L1", "L2", "refcount table", "refcount block")


def entries() -> Iterator[Case]:
    """Entries of the tables that lead out of the file, into other tables or back to themselves."""
    for table in TABLES[:2]:
        for name, word in WORDS.items():
            yield Case(f"{table} entries", name, lambda i, t=table, w=word: i.word(i[t], w | COPIED))
        for target in TABLES:
            yield Case(f"{table} entries", f"to {target}", lambda i, t=table, g=target: _to(i, t, g))
        yield Case(f"{table} entries", "one twice", lambda i, t=table: _twice(i, t))
    for name, word in {"past the end": 2**40, "misaligned": 5 * CLUSTER + 512, "reserved bits": 5 * CLUSTER + 1}.items():
        yield Case("refcounts", f"block {name}", lambda i, w=word: i.word(i["refcount table"], w))
    yield Case("refcounts", "block in the header's place", lambda i: i.word(i["refcount table"], i["L1"]))
    yield Case("refcounts", "one block twice", lambda i: i.word(i["refcount table"] + 8, i["refcount block"]))
    yield Case("refcounts", "no block", lambda i: i.word(i["refcount table"], 0))
    yield Case("refcounts", "of clusters that are not there", lambda i: i.word(i["refcount table"] + 8000, i.append()))
    for cluster in (0, 1, 3):
        yield Case("refcounts", f"cluster {cluster} free", lambda i, c=cluster: i.put(i["refcount block"] + 2 * c, b"\0\0"))


def _twice(image: Image, table: str) -> None:
    image.field("l1_size", 2)
    image.put(image[table] + 8, image.data[image[table] : image[table] + 8])


def _to(image: Image, table: str, target: str) -> None:
    if table == "L1" and target == "L2":
        image.word(image["L2"], image["L2"] | COPIED)
    else:
        image.word(image[table], image[target] | COPIED)


def compressed() -> Iterator[Case]:
    """Compressed clusters with data from nowhere, in the tables, or that is none."""
    kind = "compressed data"
    for name, offset in {"past the end": 2**40, "in the header": 0}.items():
        word = compressed_word(offset, 512, 16)
        yield Case(kind, name, lambda image, word=word: image.word(image["compressed"], word))
    for table in TABLES:
        yield Case(kind, f"in {table}", lambda i, t=table: i.word(i["compressed"], compressed_word(i[t], 512, 16)))
    yield Case(kind, "noise", lambda image: _stream(image, b"\xff\xfe" * 256))
    yield Case(kind, "short", lambda image: _stream(image, _deflated(bytes(100))))
    yield Case(kind, "with the copied flag", lambda image: image.put(image["compressed"], b"\xc0"))


def _deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -12)
    return stream.compress(data) + stream.flush()


def _stream(image: Image, data: bytes) -> None:
    for index in range(4):  # compressed clusters share host clusters, so all of them move
        place = image.append(data.ljust(512, b"\0"))
        image.word(image["compressed"] + 8 * index, compressed_word(place, 512, 16))


OTHER_FORMATS: dict[str, tuple[int, bytes]] = {
    "vmdk": (0, b"KDMV\1\0\0\0"),
    "vmdk descriptor": (0, b'# Disk DescriptorFile\nRW 1 FLAT "/etc/passwd" 0\n'),
    "vdi": (64, b"\x7f\x10\xda\xbe"),
    "vhdx": (0, b"vhdxfile"),
    "vpc": (0, b"conectix"),
    "qed": (0, b"QED\0"),
    "luks": (0, b"LUKS\xba\xbe\0\1"),
    "parallels": (0, b"WithoutFreeSpace"),
    "qcow": (0, b"QFI\xfb\0\0\0\1"),
    "bochs": (0, b"Bochs Virtual HD Image"),
}


def formats() -> Iterator[Case]:
    """Files that are not, or not only, what their sender says."""
    kind = "other formats"
    for name, (offset, magic) in OTHER_FORMATS.items():
        for said in ("qcow2", "raw"):
            yield Case(kind, f"{name} called {said}", lambda image, o=offset, m=magic: _other(image, o, m), format=said)
    yield Case(kind, "qcow2 called raw", lambda image: None, format="raw")
    yield Case(kind, "raw called qcow2", lambda image: image.put(0, bytes(8)))
    yield Case(kind, "qcow2 and VDI", lambda image: image.put(64, b"\x7f\x10\xda\xbe\0\0\0\0"))
    for magic in (b"CD001", b"NSR02", b"NSR03"):
        yield Case(kind, f"qcow2 and {magic.decode()}", lambda image, m=magic: image.put(0x8001, m))
    yield Case(kind, "qcow2 and boot sector", lambda image: image.put(510, b"\x55\xaa"))


def _other(image: Image, offset: int, magic: bytes) -> None:
    image.put(0, bytes(512))
    image.put(offset, magic)


def cuts() -> Iterator[Case]:
    """Files that end early."""
    for length in (0, 3, 4, 8, 71, 72, 103, 104, 511, 512, CLUSTER, 2 * CLUSTER, 3 * CLUSTER + 1, 4 * CLUSTER):
        yield Case("cut files", f"after {length} bytes", lambda image, length=length: image.cut(length))


def costs() -> Iterator[Case]:
    """Small files that claim to be much work."""
    kind = "costly"
    yield Case(kind, "an L1 table full of one L2 table", lambda image: _full_l1(image, 1 << 19))
    yield Case(kind, "a sparse file of 8 TiB with an L1 table of 4 million", _sparse)
    yield Case(kind, "a refcount table of 8 MiB full of one block", _full_refcount_table)
    yield Case(kind, "8192 extensions", lambda image: image.extensions(*[(0x22222222, b"")] * 8178))


def _full_l1(image: Image, number: int) -> None:
    entry = struct.pack(">Q", image["L2"] | COPIED)
    place = image.append(entry * number)
    image.field("l1_table_offset", place)
    image.field("l1_size", number)


def _sparse(image: Image) -> None:
    number, first = 1 << 22, 1 << 10
    table = b"".join(struct.pack(">Q", (first + index) * CLUSTER | COPIED) for index in range(number))
    image.field("l1_table_offset", image.append(table))
    image.field("l1_size", number)
    image.length = 8 << 40


def _full_refcount_table(image: Image) -> None:
    place = image.append(struct.pack(">Q", image["refcount block"]) * MIB)
    image.field("refcount_table_offset", place)
    image.field("refcount_table_clusters", 128)


def corpus() -> list[Case]:
    """All cases."""
    groups = (numbers, places, features, extensions, names, bitmaps, snapshots, entries, compressed, formats, cuts, costs)
    return [case for group in groups for case in group()]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for number, case in enumerate(corpus()):
        print(case.write(folder / f"{number:03}.img"), case, sep="\t")
