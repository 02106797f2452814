"""The content digest is the same however the rows of an image are told, and as plainly read blocks have it."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cowherd
from cowherd.herd.records.block import BLOCK
from cowherd.herd.records.digest import digest_disk
from cowherd.herd.records.digest_rows import read_content
from cowherd.image.open import open_disk
from cowherd.image.reading import open_reading
from cowherd.storage import ahead
from tests.herd.qemu_herd import make_base, make_overlay, noise, qemu_img, write

MIB = 1 << 20


def plainly(path, format=None, progress=None):
    with open_reading(path, format=format) as reading:
        return read_content(reading, progress).content_digest


def with_arrays(path, format=None):
    with open_disk(path, format=format) as disk:
        return digest_disk(disk).content_digest


def scattered(path, pieces, size):
    """Writes a raw disk of `size` bytes that holds data at `pieces` of (start, length), each of zeros or of noise."""
    with path.open("wb") as file:
        file.truncate(size)
        for number, (start, length) in enumerate(pieces):
            file.seek(start)
            file.write(bytes(length) if number % 3 == 2 else noise(length, number))
    return path


@given(st.lists(st.tuples(st.integers(0, 64), st.integers(1, 40)), max_size=12), st.integers(0, 3))
def test_a_raw_disk_with_holes_anywhere_has_the_digest_that_arrays_give(tmp_path_factory, pieces, tail):
    path = scattered(
        tmp_path_factory.mktemp("raw") / "disk",
        [(start * 24576, length * 4096) for start, length in pieces],
        2 * MIB + tail * 512,
    )
    assert plainly(path, "raw") == with_arrays(path, "raw")


@pytest.mark.qemu
@pytest.mark.parametrize("options", [[], ["-o", "cluster_size=2M"], ["-o", "cluster_size=4k"], ["-o", "cluster_size=512"]])
def test_an_image_of_any_cluster_size_has_the_digest_that_arrays_give(tmp_path, options):
    data = noise(3 * BLOCK) + bytes(4 * BLOCK) + noise(70 * BLOCK, 1) + bytes(512) + noise(1024, 2)
    image = make_base(tmp_path / "disk.qcow2", data, *options)
    assert plainly(image) == with_arrays(image)


@pytest.mark.qemu
def test_a_chain_is_read_through_where_layers_share_a_block(tmp_path):
    base = make_base(tmp_path / "base.qcow2", noise(40 * BLOCK), "-o", "cluster_size=4k")
    middle = make_overlay(tmp_path / "middle.qcow2", base, "-o", "cluster_size=8k", size=64 * BLOCK)
    top = make_overlay(tmp_path / "top.qcow2", middle, "-o", "cluster_size=512")
    chosen = random.Random(4)
    for image in (middle, top):
        write(image, *(f"write -q -P {chosen.randrange(256)} {chosen.randrange(8000) * 512} 1024" for _ in range(60)))
    write(top, f"write -q -z {5 * BLOCK} {9 * BLOCK}")
    assert plainly(top) == with_arrays(top)


def test_a_disk_without_data_has_a_digest(tmp_path):
    path = scattered(tmp_path / "disk", [], 1 << 42)
    assert plainly(path, "raw") == with_arrays(path, "raw")


def test_progress_counts_up_to_the_bytes_of_data(tmp_path):
    seen = []
    path = scattered(tmp_path / "disk", [(0, 600 * BLOCK), (900 * BLOCK, 1)], 1000 * BLOCK)
    plainly(path, "raw", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (601 * BLOCK, 601 * BLOCK)
    assert len(seen) > 1


@pytest.mark.qemu
def test_compressed_clusters_are_read(tmp_path):
    image = make_base(tmp_path / "disk.qcow2", bytes(1000) + b"x" * MIB, "-c")
    assert "compressed" in qemu_img("check", image)
    assert plainly(image) == with_arrays(image)


def test_what_the_kernel_can_not_guess_is_asked_for(tmp_path, monkeypatch):
    asked = []
    read = os.preadv

    def cold(fd, buffers, offset, flags=0):
        if flags:
            raise BlockingIOError
        return read(fd, buffers, offset)

    monkeypatch.setattr(ahead.os, "preadv", cold)
    monkeypatch.setattr(ahead.os, "posix_fadvise", lambda fd, offset, length, advice: asked.append((offset, length)))
    for order in ("ascending", "descending"):
        image = tmp_path / order
        cowherd.create(image, 64 * BLOCK)
        with cowherd.open(image, format="qcow2", writable=True) as disk:
            for block in sorted(range(0, 64, 2), reverse=order == "descending"):
                disk.write(block * BLOCK, b"data" * (BLOCK // 4))
        asked.clear()
        with open_reading(image, format="qcow2") as reading:
            read_content(reading)
        assert sum(length for _, length in asked) == (32 if order == "descending" else 16) * BLOCK
