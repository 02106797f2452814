"""An opened image: what it refuses, what it does before the first change, and what it keeps of a header."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from cowherd.errors import HostFileError, ImageCorrupt, ImageFormatError, ReadOnlyImage, UnsupportedFeature
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.header import Extension, Header, read_header, write_header
from cowherd.formats.qcow2.image import open_qcow2
from cowherd.formats.reference import BackingReference
from cowherd.image.open import open_disk
from cowherd.storage.hostfile import HostFile
from tests import qemu
from tests.images import KIB, MIB, Features, assert_sound, create_with_cowherd, create_with_qemu

CLUSTER = 64 * KIB
UNKNOWN_TYPE = 0x12345678


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of a MiB that holds one cluster of x's, the second one compressed."""
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), MIB)
    with open_qcow2(path, writable=True) as opened:
        opened.write(0, memoryview(b"x" * CLUSTER), None)
        opened.write_compressed(CLUSTER, memoryview(b"c" * CLUSTER), None)
    return path


def header_of(path: Path) -> Header:
    with HostFile.open(path, lock=None) as file:
        return read_header(file)


def change_header(path: Path, **changes: object) -> None:
    with HostFile.open(path, writable=True) as file:
        write_header(file, read_header(file)._replace(**changes))


def test_a_corrupt_image_is_only_read(image: Path):
    change_header(image, incompatible=layout.INCOMPATIBLE_CORRUPT)
    with open_qcow2(image) as opened:
        assert opened.size == MIB
    with pytest.raises(ImageCorrupt, match="marked corrupt"):
        open_qcow2(image, writable=True)


@pytest.mark.parametrize("version", [2, 3])
def test_encryption_is_refused_by_name(image: Path, version: int):
    change_header(image, version=version, crypt_method=1)
    with pytest.raises(UnsupportedFeature, match="encryption"):
        open_qcow2(image)


def test_an_external_data_file_is_refused_by_name(tmp_path: Path, qemu_img: qemu.Tool):
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data.raw'}", path, "1M")
    with pytest.raises(UnsupportedFeature, match="external data file"):
        open_qcow2(path)


def test_an_image_with_an_enabled_bitmap_is_only_read(image: Path, qemu_img: qemu.Tool):
    qemu_img("bitmap", "--add", "--enable", image, "changes")
    with open_qcow2(image) as opened:
        assert opened.size == MIB
    with pytest.raises(UnsupportedFeature, match="bitmaps"):
        open_qcow2(image, writable=True)


def test_disabled_bitmaps_are_kept(image: Path, qemu_img: qemu.Tool):
    qemu_img("bitmap", "--add", "--disable", image, "changes")
    with open_qcow2(image, writable=True) as opened:
        opened.write(0, memoryview(b"y" * CLUSTER), None)
    assert '"changes"' in qemu_img("info", "--output=json", image)
    assert_sound(image)


def test_a_writer_clears_autoclear_bits_that_it_does_not_know(image: Path):
    change_header(image, autoclear=1 << 40)
    with open_qcow2(image):
        assert header_of(image).autoclear == 1 << 40
    with open_qcow2(image, writable=True):
        pass
    assert header_of(image).autoclear == 0


def test_refcounts_of_an_image_left_dirty_are_counted_anew(tmp_path: Path, qemu_io: qemu.Tool):
    path = create_with_qemu(tmp_path / "image.qcow2", Features(lazy_refcounts=True), MIB)
    qemu_io.run("-f", "qcow2", "-c", "write -P 1 0 300k", "-c", "flush", "-c", "abort", path)
    assert header_of(path).dirty
    with open_qcow2(path, writable=True) as opened:
        assert not header_of(path).dirty
        opened.write(0, memoryview(b"y" * 500 * KIB), None)
    assert_sound(path)


def test_a_dirty_image_is_read_as_it_is(tmp_path: Path, qemu_io: qemu.Tool):
    path = create_with_qemu(tmp_path / "image.qcow2", Features(lazy_refcounts=True), MIB)
    qemu_io.run("-f", "qcow2", "-c", "write -P 1 0 300k", "-c", "flush", "-c", "abort", path)
    before = path.read_bytes()
    with open_qcow2(path) as opened:
        buffer = bytearray(300 * KIB)
        opened._read_visible(0, memoryview(buffer), None)
        assert buffer == b"\1" * 300 * KIB
    assert path.read_bytes() == before


def test_extensions_that_nobody_knows_are_kept(image: Path):
    with open_qcow2(image, writable=True) as opened:
        opened.set_extension(UNKNOWN_TYPE, b"seventeen bytes!!")
        opened.set_backing(BackingReference("base", "raw"))
        opened.resize(2 * MIB)
    assert Extension(UNKNOWN_TYPE, b"seventeen bytes!!") in header_of(image).extensions


def test_an_extension_can_be_taken_out(image: Path):
    with open_qcow2(image, writable=True) as opened:
        opened.set_extension(UNKNOWN_TYPE, b"data")
        opened.set_extension(UNKNOWN_TYPE, None)
    assert header_of(image).extension(UNKNOWN_TYPE) is None


def test_another_backing_file_changes_nothing_but_the_header(image: Path):
    before = image.read_bytes()
    with open_qcow2(image, writable=True) as opened:
        opened.set_backing(BackingReference("elsewhere/base.qcow2", "qcow2"))
    assert header_of(image).backing == BackingReference("elsewhere/base.qcow2", "qcow2")
    assert image.read_bytes()[CLUSTER:] == before[CLUSTER:]


def test_an_image_opened_to_be_read_refuses_changes(image: Path):
    with open_qcow2(image) as opened:
        for change in (
            lambda: opened.write(0, memoryview(b"y"), None),
            lambda: opened.zero(0, 512, None, unmap=True),
            lambda: opened.discard(0, CLUSTER, None),
            lambda: opened.resize(2 * MIB),
            lambda: opened.set_backing(None),
        ):
            with pytest.raises(ReadOnlyImage):
                change()


def test_any_part_of_a_compressed_cluster_can_be_read(image: Path):
    with open_qcow2(image) as opened:
        buffer = bytearray(100)
        opened.read_compressed([(CLUSTER + 1234, memoryview(buffer))])
        assert buffer == b"c" * 100


def test_a_compressed_cluster_that_changed_is_not_read_from_memory(image: Path):
    with open_qcow2(image, writable=True) as opened:
        buffer = bytearray(100)
        opened.read_compressed([(CLUSTER, memoryview(buffer))])
        opened.write_compressed(CLUSTER, memoryview(b"d" * CLUSTER), None)
        opened.read_compressed([(CLUSTER, memoryview(buffer))])
        assert buffer == b"d" * 100


def test_compressed_data_that_is_damaged_is_an_error_that_says_where(image: Path):
    with open_qcow2(image, writable=True) as opened:
        table = opened._tables.l2(0)
        assert table is not None
        place = int(table[1, 0]) & ((1 << 54) - 1)
        opened.file.pwrite(place, b"\xff" * 64)
        with pytest.raises(ImageFormatError, match="guest offset 0x10000 is damaged"):
            opened.read_compressed([(CLUSTER, memoryview(bytearray(100)))])


@pytest.mark.parametrize(
    "features", [Features(4 * KIB), Features(compression="zstd"), Features(16 * KIB, extended_l2=True)], ids=str
)
def test_many_compressed_clusters_are_read_at_once_wherever_they_lie(tmp_path: Path, features: Features):
    path, size = create_with_cowherd(tmp_path / "image.qcow2", features, 5 * MIB), features.cluster_size
    rows = [bytes([number % 251, 1, number // 251]) * size for number in range(4 * MIB // size)]
    content = bytearray(b"".join(row[:size] for row in rows))
    with open_qcow2(path, writable=True) as opened:
        opened.write_compressed(0, memoryview(content), None)
        for number in (3, 17, 5):  # these lie behind all others from now on
            content[number * size : (number + 1) * size] = bytes([200 + number]) * size
            opened.write_compressed(number * size, memoryview(content)[number * size : (number + 1) * size], None)
    with open_qcow2(path) as opened:
        for start, end in (
            (0, len(content)),
            (size, 19 * size),
            (100, 4 * size + 7),
            (2 * size, 3 * size),
            (size - 1, 2 * size + 1),
        ):
            buffer = bytearray(end - start)
            opened.read_compressed([(start, memoryview(buffer))])
            assert buffer == content[start:end], (start, end)


def test_damage_among_many_compressed_clusters_is_told_with_its_place(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), MIB)
    with open_qcow2(path, writable=True) as opened:
        opened.write_compressed(0, memoryview(b"c" * 8 * CLUSTER), None)
        place = int(opened._tables.words_at(np.array([5]))[0]) & ((1 << 54) - 1)
        opened.file.pwrite(place, b"\xff" * 8)
        with pytest.raises(ImageFormatError, match="guest offset 0x50000 is damaged"):
            opened.read_compressed([(0, memoryview(bytearray(8 * CLUSTER)))])


def test_closing_twice_is_fine(image: Path):
    opened = open_qcow2(image, writable=True)
    opened.close()
    opened.close()


def test_what_was_written_is_in_the_tables_before_the_header_changes(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, real = [], write_header

    def looking_first(file: HostFile, header: Header) -> None:
        with open_disk(image, format="qcow2", force_share=True) as as_it_is:
            found.append(as_it_is.read(4 * CLUSTER, CLUSTER))
        real(file, header)

    with open_qcow2(image, writable=True) as opened:
        opened.write(4 * CLUSTER, memoryview(b"z" * CLUSTER), None)
        monkeypatch.setattr("cowherd.formats.qcow2.state.write_header", looking_first)
        opened.set_extension(UNKNOWN_TYPE, b"new")
    assert found == [b"z" * CLUSTER]


def test_refcounts_in_many_blocks_are_counted_anew(tmp_path: Path, qemu_img: qemu.Tool):
    path = tmp_path / "image"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=512,lazy_refcounts=on", path, "1M")
    with open_qcow2(path, writable=True) as opened:
        opened.write(0, memoryview(b"x" * (900 * KIB)), None)  # 1800 clusters; a block of refcounts is of 256
    with path.open("r+b") as file:
        file.seek(72)
        file.write((1).to_bytes(8, "big"))  # dirty, as its last writer leaves it that is killed
        table = int.from_bytes(path.read_bytes()[48:56], "big")
        for entry in (1, 3):  # and wrote fewer counts than it has used clusters
            block = int.from_bytes(path.read_bytes()[table + entry * 8 : table + entry * 8 + 8], "big")
            file.seek(block)
            file.write(bytes(512))
    with open_qcow2(path, writable=True):
        pass
    assert not header_of(path).dirty
    qemu_img("check", "-q", path)


@pytest.mark.parametrize("writable", [False, True])
def test_a_closed_image_leaves_memory_without_a_search_for_cycles(image: Path, writable: bool):
    """Commands hardly ever search: a merge beside a thousand siblings would hold the tables of all of them."""
    gc.disable()
    try:
        opened = open_qcow2(image, writable=writable)
        opened.read_compressed([(CLUSTER, memoryview(bytearray(CLUSTER)))])
        if writable:
            opened.write(2 * CLUSTER, memoryview(b"y" * CLUSTER), None)
        opened.close()
        left = weakref.ref(opened)
        del opened
        assert left() is None
    finally:
        gc.enable()


def test_a_closed_image_can_not_be_changed(image: Path):
    opened = open_qcow2(image, writable=True)
    opened.close()
    opened.close()
    with pytest.raises(HostFileError, match="it is closed"):
        opened.write(0, memoryview(b"y" * CLUSTER), None)
