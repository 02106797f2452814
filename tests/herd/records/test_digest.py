from __future__ import annotations

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from cowherd import extents
from cowherd.herd.records import digest_rows
from cowherd.herd.records.block import BLOCK
from cowherd.herd.records.content import ZERO_DIGEST
from cowherd.herd.records.digest import BlockDigests, differing, digest_disk, digests_of, expand, runs_of
from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from tests.herd.qemu_herd import make_base, make_overlay, noise, qemu_img, write

MIB = 1 << 20


def digests(path, format=None):
    with open_disk(path, format=format) as disk:
        return digest_disk(disk)


def plain(data: bytes) -> list[tuple[int, bytes]]:
    """(number, digest) of each block of `data` that is not zeros, without any of the code under test."""
    blocks = {n: data[n * BLOCK : (n + 1) * BLOCK].ljust(BLOCK, b"\0") for n in range(-(-len(data) // BLOCK))}
    return [(n, blake3(block).digest()) for n, block in blocks.items() if any(block)]


def listed(found: BlockDigests) -> list[tuple[int, bytes]]:
    return list(zip(expand(found.runs).tolist(), [row.tobytes() for row in found.digests], strict=True))


@pytest.fixture
def data():
    return noise(3 * BLOCK) + bytes(4 * BLOCK) + noise(70 * BLOCK, 1) + bytes(512) + noise(1024, 2)


def test_each_block_that_is_not_zeros_has_its_blake3_digest(tmp_path, data):
    path = tmp_path / "disk.raw"
    path.write_bytes(data)
    found = digests(path, "raw")
    assert found.size == len(data)
    assert listed(found) == plain(data)
    assert found.runs.tolist() == [[0, 3], [7, 78]]


@pytest.mark.qemu
@pytest.mark.parametrize("options", [[], ["-c"], ["-o", "cluster_size=2M"], ["-o", "cluster_size=512"], ["-o", "extended_l2=on"]])
def test_raw_and_qcow2_of_the_same_content_have_the_same_digest(tmp_path, data, options):
    raw = tmp_path / "disk.raw"
    raw.write_bytes(data)
    qcow2 = make_base(tmp_path / "disk.qcow2", data, *options)
    assert digests(qcow2).content_digest == digests(raw, "raw").content_digest


def test_written_zeros_and_holes_have_the_same_digest(tmp_path, data):
    sparse, full = tmp_path / "sparse", tmp_path / "full"
    full.write_bytes(bytes(MIB) + data)
    with sparse.open("wb") as file:
        file.seek(MIB)
        file.write(data)
    assert digests(sparse, "raw").content_digest == digests(full, "raw").content_digest


@pytest.mark.qemu("qemu-io")
def test_an_overlay_is_digested_through_its_chain(tmp_path, data):
    base = make_base(tmp_path / "base.qcow2", data)
    overlay = make_overlay(tmp_path / "overlay.qcow2", base.name)
    write(overlay, "write -P 5 100k 3k", "write -z 3M 10k")
    flat = tmp_path / "flat.raw"
    qemu_img("convert", "-O", "raw", overlay, flat)
    assert listed(digests(overlay)) == plain(flat.read_bytes())


def test_the_size_is_a_part_of_the_content(tmp_path):
    for name, size in (("small", MIB), ("large", MIB + 512)):
        (tmp_path / name).write_bytes(b"\1" * BLOCK + bytes(size - BLOCK))
    small, large = digests(tmp_path / "small", "raw"), digests(tmp_path / "large", "raw")
    assert small.content_digest != large.content_digest
    assert differing(small, large).tolist() == []


def test_a_block_that_an_end_cuts_short_is_the_same_on_a_larger_disk(tmp_path):
    (tmp_path / "small").write_bytes(b"\1" * 1024)
    (tmp_path / "large").write_bytes(b"\1" * 1024 + bytes(MIB))
    assert differing(digests(tmp_path / "small", "raw"), digests(tmp_path / "large", "raw")).tolist() == []


@pytest.mark.parametrize(("kept", "times"), [(100_000, 1), (2, 3)])
def test_extents_are_looked_up_once_unless_they_are_very_many(tmp_path, data, monkeypatch, kept, times):
    path, looked_up = tmp_path / "disk.raw", []
    with path.open("wb") as file:
        for start in (0, 16 * MIB, 32 * MIB):  # holes between them
            file.seek(start)
            file.write(data)
    monkeypatch.setattr(digest_rows, "_KEPT_ROWS", kept)
    ask = Disk.cover
    monkeypatch.setattr(Disk, "cover", lambda *where: looked_up.append(where) or ask(*where))
    found = digests(path, "raw")
    assert listed(found) == plain(path.read_bytes())
    assert len(looked_up) == times


def test_an_empty_disk_of_terabytes_costs_nothing(tmp_path):
    path = tmp_path / "huge.raw"
    with path.open("wb") as file:
        file.truncate(4 << 40)
    assert digests(path, "raw").runs.tolist() == []


def test_blocks_asked_for_past_the_end_are_zeros(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(b"\1" * BLOCK)
    with open_disk(path, format="raw") as disk:
        found = digests_of(disk, extents.ranges([(0, 3)]))
    assert [row.tobytes() for row in found] == [blake3(b"\1" * BLOCK).digest(), ZERO_DIGEST, ZERO_DIGEST]


def test_progress_counts_up_to_the_bytes_of_data(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(b"\1" * (200 * BLOCK))
    calls = []
    with open_disk(path, format="raw") as disk:
        digest_disk(disk, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (200 * BLOCK, 200 * BLOCK)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


@pytest.mark.filterwarnings("error")
def test_an_error_while_reading_ends_the_work_and_is_raised(tmp_path, monkeypatch):
    path = tmp_path / "disk.raw"
    path.write_bytes(b"\1" * (500 * BLOCK))
    with open_disk(path, format="raw") as disk:

        def fail(*arguments):
            raise OSError("the disk is gone")

        monkeypatch.setattr(disk.layers[0].file, "preadinto", fail)
        with pytest.raises(OSError, match="the disk is gone"):
            digest_disk(disk)


BLOCK_SETS = st.sets(st.integers(0, 40))


def made(blocks: dict[int, int]) -> BlockDigests:
    """Digests in which each block has a row of one repeated byte."""
    numbers = np.array(sorted(blocks), np.int64)
    rows = np.array([[blocks[n]] * 32 for n in sorted(blocks)], np.uint8).reshape(-1, 32)
    return BlockDigests(41 * BLOCK, runs_of(numbers), rows)


@given(st.dictionaries(st.integers(0, 40), st.integers(1, 3)), st.dictionaries(st.integers(0, 40), st.integers(1, 3)))
def test_what_differs_is_what_a_plain_comparison_finds(a, b):
    wanted = {block for block in {*a, *b} if a.get(block) != b.get(block)}
    assert set(expand(differing(made(a), made(b))).tolist()) == wanted


@given(st.dictionaries(st.integers(0, 40), st.integers(1, 3)), BLOCK_SETS)
def test_looking_up_gives_the_row_of_each_block_or_that_of_zeros(held, asked):
    numbers = np.array(sorted(asked), np.int64)
    found = made(held).lookup(numbers)
    wanted = [bytes([held[n]] * 32) if n in held else ZERO_DIGEST for n in sorted(asked)]
    assert [row.tobytes() for row in found] == wanted
