"""Images whose bytes were changed: opening, reading and writing one succeeds or raises a `CowherdError`, at little cost."""

from __future__ import annotations

import contextlib
import resource
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cowherd.errors import CowherdError, ImageFormatError
from cowherd.formats.qcow2.layout import HEADER, HEADER_V3, Field
from cowherd.image.open import open_disk
from tests.images import KIB, Features, Request, create_with_cowherd, examples, run_in_cowherd, workload

MOST_SECONDS = 10
MOST_MEMORY = 400 << 20

SIZE = 300 * KIB + 512
SEEDS = (
    Features(512),
    Features(4 * KIB, version=2),
    Features(4 * KIB, compression="zstd", refcount_bits=64),
    Features(16 * KIB, extended_l2=True, refcount_bits=1),
)
EDGES = (
    0,
    1,
    7,
    8,
    9,
    63,
    64,
    255,
    511,
    512,
    513,
    4096,
    1 << 16,
    1 << 21,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    1 << 55,
    1 << 56,
    1 << 62,
    1 << 63,
)
WORDS = st.sampled_from(EDGES) | st.sampled_from([(1 << 64) - edge for edge in EDGES[1:]]) | st.integers(0, (1 << 64) - 1)

FIELDS: tuple[Field, ...] = (*HEADER.fields, *HEADER_V3.fields)
Spoiler = Callable[[bytearray], None]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[bytes, dict[str, int]]]:
    """Small images of several kinds with some of everything in them, and where their tables lie."""
    found = []
    for number, features in enumerate(SEEDS):
        path = create_with_cowherd(tmp_path_factory.mktemp("seeds") / f"{number}.qcow2", features, SIZE)
        with open_disk(path, format="qcow2", writable=True) as disk:
            run_in_cowherd(disk, workload(70, features, SIZE))
            header = disk.layers[0].header
            places = {
                "L1": header.l1_table_offset,
                "L2": disk.layers[0]._tables.l2_offset(0),
                "refcount table": header.refcount_table_offset,
                "refcount block": int(disk.layers[0]._writer.metadata.refcounts.table[0]),
            }
        found.append((path.read_bytes(), places))
    return found


def _try_everything(content: bytes, path: Path) -> None:
    """Opens and reads the image, then opens and changes it; only errors of the project may come out."""
    path.write_bytes(content)
    with contextlib.suppress(CowherdError), open_disk(path, format="qcow2") as disk:
        end = min(disk.size, 2 * SIZE)
        with contextlib.suppress(CowherdError):
            disk.read(0, end)
        with contextlib.suppress(CowherdError):
            disk.read(max(0, disk.size - KIB), min(disk.size, KIB))
        with contextlib.suppress(CowherdError):
            list(disk.extents(0, end))
    with contextlib.suppress(CowherdError), open_disk(path, format="qcow2", writable=True) as disk:
        end = min(disk.size, SIZE)
        for request in (
            Request("write", 0, 5000, 1),
            Request("write", 70 * KIB, 100, 2),
            Request("discard", 10 * KIB, 50 * KIB),
            Request("zero", 100 * KIB, 30 * KIB),
            Request("write", 200 * KIB, 90 * KIB, 3),
        ):
            if request.end <= end:
                with contextlib.suppress(CowherdError):
                    run_in_cowherd(disk, [request])
        with contextlib.suppress(CowherdError):
            disk.flush()
        with contextlib.suppress(CowherdError):
            disk.resize(disk.size + 64 * KIB)


def _spend_little(content: bytes, path: Path) -> None:
    """Does `_try_everything`; fails if it took more time or memory than any small image may."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    _try_everything(content, path)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MOST_SECONDS
    assert (after.ru_maxrss - before.ru_maxrss) * KIB < MOST_MEMORY


SMALL = settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@SMALL
@given(seed=st.integers(0, len(SEEDS) - 1), changes=st.lists(st.tuples(st.sampled_from(FIELDS), WORDS), min_size=1, max_size=3))
@example(seed=0, changes=[(FIELDS[4], 1 << 60)])
def test_any_header_field(seeds, tmp_path: Path, seed: int, changes: list[tuple[Field, int]]):
    content = bytearray(seeds[seed][0])
    for field, value in changes:
        width = struct.calcsize(">" + field.code)
        content[field.offset : field.offset + width] = (value % (1 << 8 * width)).to_bytes(width, "big")
    _spend_little(content, tmp_path / "image.qcow2")


@SMALL
@given(
    seed=st.integers(0, len(SEEDS) - 1),
    changes=st.lists(
        st.tuples(st.sampled_from(["L1", "L2", "refcount table", "refcount block"]), st.integers(0, 63), WORDS),
        min_size=1,
        max_size=6,
    ),
)
def test_any_table_entry(seeds, tmp_path: Path, seed: int, changes: list[tuple[str, int, int]]):
    content, places = bytearray(seeds[seed][0]), seeds[seed][1]
    for table, index, value in changes:
        struct.pack_into(">Q", content, places[table] + index * 8, value)
    _spend_little(content, tmp_path / "image.qcow2")


@SMALL
@given(
    seed=st.integers(0, len(SEEDS) - 1),
    changes=st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=8)), max_size=8),
)
def test_any_bytes_of_the_header_and_the_tables(seeds, tmp_path: Path, seed: int, changes: list[tuple[int, bytes]]):
    content = bytearray(seeds[seed][0])
    for place, data in changes:
        start = place % min(len(content) - 8, 16 * KIB)
        content[start : start + len(data)] = data
    _spend_little(content, tmp_path / "image.qcow2")


@SMALL
@given(seed=st.integers(0, len(SEEDS) - 1), length=st.integers(0, 200 * KIB))
def test_any_shorter_file(seeds, tmp_path: Path, seed: int, length: int):
    _spend_little(seeds[seed][0][:length], tmp_path / "image.qcow2")


@pytest.mark.parametrize("value", [0x200, 0x10200, 1 << 55], ids=hex)
def test_a_table_entry_that_points_into_a_cluster_is_an_error(tmp_path: Path, value: int):
    image = create_with_cowherd(tmp_path / "image.qcow2", Features(), SIZE)
    with open_disk(image, writable=True) as disk:
        disk.write(0, b"x" * 512)
        offset = disk.layers[0]._tables.l2_offset(0)
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack(">Q", value | 0x200))
    with open_disk(image) as disk, pytest.raises(ImageFormatError, match="guest offset 0x0"):
        disk.read(0, 512)
