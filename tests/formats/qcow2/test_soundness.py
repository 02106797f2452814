"""Tests of what is told of sound tables without arrays. `damaging.checked` compares it with the full check in other tests."""

from __future__ import annotations

import random

import pytest

from cowherd.formats.outline import NeedsArrays
from cowherd.formats.qcow2.header import read_header
from cowherd.formats.qcow2.report import CheckReport
from cowherd.formats.qcow2.soundness import sound_report
from cowherd.storage.hostfile import HostFile
from tests.formats.qcow2.damaging import assert_same_check
from tests.herd.qemu_herd import qemu_img, write

pytestmark = pytest.mark.qemu("qemu-img", "qemu-io")

KINDS = {
    "plain": "",
    "version 2": "compat=0.10",
    "small clusters": "cluster_size=512",
    "large clusters": "cluster_size=2M",
    "narrow refcounts": "refcount_bits=1",
    "wide refcounts": "refcount_bits=64",
    "lazy refcounts": "lazy_refcounts=on",
    "preallocated": "preallocation=metadata",
}


def told(path) -> CheckReport:
    with HostFile.open(path, lock=None) as file:
        return sound_report(file, read_header(file))


def make_image(path, options: str, *commands: str) -> None:
    qemu_img("create", "-q", "-f", "qcow2", *(("-o", options) if options else ()), path, "8M")
    write(path, *commands)


@pytest.mark.parametrize("kind", KINDS)
def test_all_is_told_of_a_sound_image(tmp_path, kind):
    generator = random.Random(kind)
    places = [generator.randrange(0, 8 << 10) << 10 for _ in range(20)]
    image = tmp_path / "image"
    make_image(image, KINDS[kind], *(f"write {generator.choice(['-P 1', '-z', '-P 2'])} {place} 1k" for place in places))
    assert told(image) == assert_same_check(image)


@pytest.mark.parametrize("bits", [8, 16])
def test_compressed_clusters_may_share_host_clusters(tmp_path, bits):
    image, copy = tmp_path / "image", tmp_path / "copy"
    make_image(image, "", "write -P 1 0 2M", "write -P 3 3M 64k")
    qemu_img("convert", "-c", "-O", "qcow2", "-o", f"refcount_bits={bits}", image, copy)
    write(copy, "write -P 5 128k 100k")
    found = told(copy)
    assert found.compressed_clusters > 20
    assert found == assert_same_check(copy)


def test_an_empty_image_uses_its_tables_only(tmp_path):
    image = tmp_path / "image"
    make_image(image, "")
    assert told(image) == assert_same_check(image)
    assert told(image).allocated_clusters == 0


SECRET = ("--object", "secret,id=key,data=x")
LUKS = ("-o", "encrypt.format=luks,encrypt.key-secret=key")
UNUSUAL = {
    "subclusters": lambda image: make_image(image, "extended_l2=on", "write 0 1k"),
    "snapshot": lambda image: (make_image(image, ""), qemu_img("snapshot", "-c", "one", image)),
    "bitmap": lambda image: (make_image(image, ""), qemu_img("bitmap", "--add", "-f", "qcow2", image, "one")),
    "encrypted": lambda image: qemu_img("create", "-q", *SECRET, "-f", "qcow2", *LUKS, image, "1M"),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_what_is_not_plain_is_left_to_the_full_check(tmp_path, kind):
    UNUSUAL[kind](tmp_path / "image")
    with pytest.raises(NeedsArrays):
        told(tmp_path / "image")


@pytest.mark.parametrize("place", [0x10008, 0x20001, 0x30000, 0x40000, 0x40007, 0x1FFF8])
def test_nothing_that_was_touched_is_called_sound_by_mistake(tmp_path, place):
    image = tmp_path / "image"
    make_image(image, "", "write -P 1 0 64k")
    data = bytearray(image.read_bytes())
    data[place] ^= 1
    image.write_bytes(data)
    report = assert_same_check(image)
    if report.corruptions or report.leaks or report.check_errors:
        with pytest.raises(NeedsArrays):
            told(image)


def test_clusters_written_in_any_order_are_counted_once_each(tmp_path):
    generator = random.Random(5)
    image = tmp_path / "image"
    places = generator.sample(range(128), 60)
    make_image(image, "", *(f"write -P {1 + place} {place * 64}k 64k" for place in places))
    found = told(image)
    assert found == assert_same_check(image)
    assert (found.allocated_clusters, found.fragmented_clusters) > (60, 20)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_cluster_that_two_entries_share_is_left_to_the_full_check(tmp_path, kept):
    image = tmp_path / "image"
    make_image(image, "", "write -P 1 0 64k", "write -P 2 128k 192k")
    with HostFile.open(image, lock=None) as file:
        table = int.from_bytes(file.pread(read_header(file).l1_table_offset, 8)) & ~(1 << 63)
    data = bytearray(image.read_bytes())
    entry = table + (2 + kept) * 8
    data[table : table + 8] = data[entry : entry + 8]
    image.write_bytes(data)
    with pytest.raises(NeedsArrays):
        told(image)
    assert assert_same_check(image).corruptions
