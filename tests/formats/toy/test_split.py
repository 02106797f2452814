"""An image of several files reads as one: whole, as a base, and where its bytes are compared or committed."""

from __future__ import annotations

import pytest

import cowherd
from cowherd.errors import CowherdError, ReadOnlyImage
from cowherd.formats import registry
from cowherd.image.open import open_disk
from cowherd.ops.compare.compare import compare
from cowherd.ops.convert.convert import convert
from cowherd.storage.hostfile import HostFile
from cowherd.storage.joined import JoinedFile
from tests.formats.toy.split import SPLIT, write_split
from tests.herd.qemu_herd import noise

KIB = 1 << 10
CONTENT = noise(300 * KIB)
PARTS = (100 * KIB + 512, 1024, 64 * KIB)


@pytest.fixture(autouse=True)
def known():
    registry.add(SPLIT)
    yield
    del registry.FORMATS[SPLIT.name]


@pytest.fixture
def split(tmp_path):
    (tmp_path / "same.raw").write_bytes(CONTENT)
    (tmp_path / "other.raw").write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    return write_split(tmp_path / "disk.split", CONTENT, *PARTS)


def test_it_reads_as_one_across_the_borders_of_its_files(split):
    with open_disk(split) as disk:
        assert disk.read(0, len(CONTENT)) == CONTENT
        for border in (PARTS[0], PARTS[0] + PARTS[1], sum(PARTS)):
            assert disk.read(border - 700, 1400) == CONTENT[border - 700 : border + 700]


@pytest.mark.parametrize("target", ["raw", "qcow2"])
def test_it_is_converted_and_compared(split, target):
    copy = split.with_name("copy")
    convert(split, copy, target_format=target)
    assert compare(split, copy).identical
    assert compare(copy, split.with_name("same.raw")).identical
    assert compare(split, split.with_name("other.raw")).offset == len(CONTENT) - 512


def test_it_is_a_base_whose_bytes_come_along_in_a_copy(split):
    overlay = split.with_name("over")
    cowherd.create(overlay, backing=str(split), backing_format="split")
    with cowherd.open(overlay, writable=True) as disk:
        disk.write(PARTS[0] - 10, b"x" * 20)
    convert(overlay, split.with_name("copy"), target_format="raw")
    expected = CONTENT[: PARTS[0] - 10] + b"x" * 20 + CONTENT[PARTS[0] + 10 :]
    assert split.with_name("copy").read_bytes() == expected


def test_closing_it_closes_all_its_files(split):
    disk = open_disk(split)
    data = disk.layers[0].data
    disk.close()
    assert data.closed
    assert disk.layers[0].file.closed


def test_a_part_that_is_not_there_is_an_error(split):
    split.with_name("disk.split.1").unlink()
    with pytest.raises(CowherdError, match=r"disk\.split\.1"):
        open_disk(split)


def test_files_that_are_joined_tell_their_holes_and_can_not_be_written_to(tmp_path):
    (tmp_path / "a").write_bytes(b"a" * 4096)
    with open(tmp_path / "b", "wb") as file:
        file.truncate(1 << 20)
        file.seek(1 << 19)
        file.write(b"b" * 4096)
    joined = JoinedFile([(HostFile.open(tmp_path / "a", lock=None), 4096), (HostFile.open(tmp_path / "b", lock=None), 1 << 20)])
    assert list(joined.data_ranges(0, joined.size())) == [(0, 4096), (4096 + (1 << 19), 8192 + (1 << 19))]
    assert joined.next_data(4096) == 4096 + (1 << 19)
    assert joined.next_data(8192 + (1 << 19)) is None
    assert joined.pread(joined.size() - 4, 8) == bytes(8)
    assert joined.pread_each([4094, 4096 + (1 << 19) - 2], 4) == [b"aa\0\0", b"\0\0bb"]
    assert joined.allocated_bytes() == 8192
    for change in (lambda: joined.pwrite(0, b"x"), joined.flush, lambda: joined.truncate(0)):
        with pytest.raises(ReadOnlyImage):
            change()
    joined.close()
    assert joined.closed
