"""Reading the directory of persistent bitmaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.errors import CowherdError, ImageFormatError
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.bitmaps import ENTRY, EXTENSION, Bitmap, read_bitmaps
from cowherd.formats.qcow2.create import new_header
from cowherd.formats.qcow2.header import Header, read_header
from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.storage.hostfile import HostFile


@pytest.fixture
def image(tmp_path, qemu_img):
    """An image with two bitmaps."""
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "8M")
    qemu_img("bitmap", "--add", path, "recording")
    qemu_img("bitmap", "--add", "--disable", "-g", "4k", path, "stopped")
    return path


def header_of(path) -> Header:
    with HostFile.open(path) as file:
        return read_header(file)


def bitmaps(path, header: Header | None = None) -> tuple[Bitmap, ...]:
    with HostFile.open(path) as file:
        return read_bitmaps(file, header or read_header(file))


def directory(path) -> dict[str, int]:
    return EXTENSION.unpack(header_of(path).extension(layout.EXTENSION_BITMAPS))


def change(path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_they_are_those_that_qemu_made(image):
    assert [(one.name, one.granularity, one.auto, one.in_use) for one in bitmaps(image)] == [
        ("recording", 65536, True, False),
        ("stopped", 4096, False, False),
    ]


def test_a_bitmap_in_use_says_so(image):
    change(image, directory(image)["directory_offset"] + 15, b"\x03")
    assert [one.in_use for one in bitmaps(image)] == [True, False]


def test_without_the_autoclear_bit_there_are_none(image):
    assert bitmaps(image, header_of(image)._replace(autoclear=0)) == ()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        (0, b"\0\0\0\3", "Less bitmaps"),
        (0, b"\0\0\0\1", "More bitmaps"),
        (0, b"\0\0\0\0", "bitmaps, allowed are"),
        (0, b"\0\1\0\0", "bitmaps, allowed are"),
        (4, b"\0\0\0\1", "Reserved field"),
        (8, bytes(8), "directory size"),
        (8, b"\0\0\0\0\x10\0\0\0", "directory size"),
        (8, b"\xff" * 8, "directory size"),
        (16, b"\0\0\0\0\0\0\1\0", "directory offset"),
        (16, b"\0\x10\0\0\0\0\0\0", "directory size"),
    ],
)
def test_an_extension_that_breaks_the_rules_is_an_error(image, field, value, said):
    header = header_of(image)
    data = bytearray(header.extension(layout.EXTENSION_BITMAPS))
    data[field : field + len(value)] = value
    with pytest.raises(ImageFormatError, match=said):
        bitmaps(image, header.with_extension(layout.EXTENSION_BITMAPS, bytes(data)))


def test_an_extension_of_another_length_is_an_error(image):
    with pytest.raises(ImageFormatError, match="Invalid extension length"):
        bitmaps(image, header_of(image).with_extension(layout.EXTENSION_BITMAPS, b"\0" * 23))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        (0, bytes(8), "constraints"),
        (0, b"\0\0\0\0\0\0\0\1", "constraints"),
        (8, bytes(4), "constraints"),
        (8, b"\xff" * 4, "constraints"),
        (12, b"\0\0\0\4", "constraints"),
        (16, b"\2", "constraints"),
        (17, b"\x08", "constraints"),
        (17, b"\x20", "constraints"),
        (18, b"\xff\xff", "Broken"),
        (20, b"\0\0\0\x08", "extra data|Broken"),
    ],
)
def test_an_entry_that_breaks_the_rules_is_an_error(image, field, value, said):
    change(image, directory(image)["directory_offset"] + field, value)
    with pytest.raises(ImageFormatError, match=said):
        bitmaps(image)


@given(data=st.binary(max_size=300), count=st.integers(1, 5), size=st.integers(0, 400))
def test_no_directory_makes_it_fail_otherwise(tmp_path_factory, data, count, size):
    path = tmp_path_factory.mktemp("hostile") / "disk.qcow2"
    path.write_bytes(bytes(65536) + data)
    extension = EXTENSION.pack({"nb_bitmaps": count, "reserved": 0, "directory_size": size, "directory_offset": 65536})
    header = new_header(1 << 20, Qcow2Options(), None)._replace(autoclear=layout.AUTOCLEAR_BITMAPS)
    try:
        found = bitmaps(path, header.with_extension(layout.EXTENSION_BITMAPS, extension))
    except CowherdError:
        return
    assert len(found) == count
    assert len(found) * ENTRY.size <= len(data)
