"""Sound files of every kind that cowherd reads, and where in them their structures lie: what fuzzing begins with."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path

import cowherd
from cowherd.formats.qcow2 import layout
from cowherd.herd.records.journal import Entry, Journal, Phase, Witness
from cowherd.image.open import open_disk
from tests.fuzz.disks import disks
from tests.fuzz.seed import Seed
from tests.hostile import corpus
from tests.images import KIB, Features, create_with_cowherd, run_in_cowherd, workload

SIZE = 300 * KIB + 512
SMALL = (
    Features(512),
    Features(512, refcount_bits=1),
    Features(4 * KIB, version=2),
    Features(4 * KIB, compression="zstd", refcount_bits=64),
    Features(16 * KIB, extended_l2=True, refcount_bits=8, lazy_refcounts=True),
)


def seeds(folder: Path) -> list[Seed]:
    """All seeds; `folder` is used to make them."""
    made = [_qcow2(folder / f"{number}.qcow2", features) for number, features in enumerate(SMALL)]
    made += [_with_tables(change) for change in _CHANGES]
    made += [_raw(), _seal(folder), _journal(folder)]
    return made + disks(folder)


def _qcow2(path: Path, features: Features) -> Seed:
    create_with_cowherd(path, features, SIZE)
    with open_disk(path, format="qcow2", writable=True) as disk:
        run_in_cowherd(disk, workload(70, features, SIZE))
        header = disk.layers[0].header
        tables = disk.layers[0]._tables
        offsets = [header.l1_table_offset, header.refcount_table_offset]
        offsets += [tables.l2_offset(index) for index in range(len(tables.l1))]
        offsets += [int(offset) for offset in disk.layers[0]._writer.metadata.refcounts.table[:4]]
    return Seed("qcow2", path.read_bytes(), _header_places() + tuple((offset, 8) for offset in offsets if offset))


@cache
def _header_places() -> tuple[tuple[int, int], ...]:
    fields = (*layout.HEADER.fields, *layout.HEADER_V3.fields)
    return (*((field.offset, struct.calcsize(">" + field.code)) for field in fields), (104, 8), (112, 4))


_CHANGES = (
    lambda image: corpus._snapshot(image, {}, 3),
    lambda image: corpus._bitmap(image, "flags", 0),
    lambda image: image.backing(b"base.raw", (layout.EXTENSION_BACKING_FORMAT, b"raw")),
    lambda image: image.backing(b'json:{"driver":"raw","file":{"driver":"file","filename":"base.raw"}}'),
    lambda image: image.extensions((0x436F5768, b"\0\1" + bytes(62)), (layout.EXTENSION_FEATURE_NAMES, bytes(96))),
)


def _with_tables(change: object) -> Seed:
    image = corpus.seed()
    assert callable(change)
    change(image)
    places = [offset for name, offset in image.places.items() if name != "data"]
    places += list(range(corpus.CLUSTER * 8, len(image.data), corpus.CLUSTER))
    text = tuple((offset, 1) for offset in range(112, 256, 4))
    return Seed("qcow2", bytes(image.data), _header_places() + text + tuple((offset, 8) for offset in places))


def _raw() -> Seed:
    return Seed("raw", b"\0" * 1000 + b"data" * 1000, ((0, 4), (510, 2)))


def _seal(folder: Path) -> Seed:
    image = create_with_cowherd(folder / "sealed.qcow2", SMALL[2], SIZE)
    with open_disk(image, format="qcow2", writable=True) as disk:
        disk.write(0, b"sealed" * 1000)
    cowherd.seal(image)
    content = (folder / "sealed.qcow2.seal").read_bytes()
    return Seed("seal", content, tuple((offset, 4) for offset in range(0, 40, 4)) + tuple((o, 1) for o in range(40, 400, 3)))


def _journal(folder: Path) -> Seed:
    overlay, base = folder / "overlay", folder / "base"
    witness = Witness(folder / "sibling", "00" * 32, whole=False)
    times = ("2026-01-01T00:00:00+00:00", "cowherd")
    images, new = (overlay, base), folder / "new"
    entry = Entry("fork", "empty", overlay, base, "qcow2", images, ((0, 65536),), (witness,), None, new, *times)
    journal = Journal.create(folder / "base.merge", entry)
    journal.advance(Phase.APPLYING)
    journal.close()
    content = (folder / "base.merge").read_bytes()
    return Seed("journal", content, tuple((offset, 4) for offset in range(0, 24, 4)) + tuple((o, 1) for o in range(24, 700, 3)))
