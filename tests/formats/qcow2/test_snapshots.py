"""Reading the table of internal snapshots."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.errors import CowherdError, ImageFormatError
from cowherd.formats.qcow2.create import new_header
from cowherd.formats.qcow2.header import read_header
from cowherd.formats.qcow2.image import open_qcow2
from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.formats.qcow2.snapshots import ENTRY, MAX_EXTRA_BYTES, Snapshot, read_snapshots
from cowherd.storage.hostfile import HostFile

SNAPSHOTS_OFFSET = 64
NUMBER_OF_SNAPSHOTS = 60


@pytest.fixture
def image(tmp_path, qemu_img):
    """An image with two snapshots, taken at different sizes."""
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    qemu_img("snapshot", "-c", "first", path)
    qemu_img("resize", "-q", path, "2M")
    qemu_img("snapshot", "-c", "the sécond", path)
    return path


def snapshots(path) -> tuple[Snapshot, ...]:
    with HostFile.open(path) as file:
        return read_snapshots(file, read_header(file))


def table_offset(path) -> int:
    return int.from_bytes(path.read_bytes()[SNAPSHOTS_OFFSET : SNAPSHOTS_OFFSET + 8], "big")


def overwrite(path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_they_are_those_that_qemu_lists(image, qemu_img):
    listed = json.loads(qemu_img("info", "--output=json", image))["snapshots"]
    found = snapshots(image)
    assert [(one.id, one.name) for one in found] == [(one["id"], one["name"]) for one in listed]
    assert [(one.date_seconds, one.date_nanoseconds) for one in found] == [(one["date-sec"], one["date-nsec"]) for one in listed]
    assert [one.vm_state_size for one in found] == [0, 0]


def test_each_knows_the_size_of_its_disk(image):
    assert [one.disk_size for one in snapshots(image)] == [1 << 20, 2 << 20]


def test_an_image_without_snapshots_has_none(tmp_path, qemu_img):
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "disk.qcow2", "1M")
    assert snapshots(tmp_path / "disk.qcow2") == ()


def test_without_extra_data_sizes_come_from_elsewhere(image):
    offset = table_offset(image)
    entry = bytearray(image.read_bytes()[offset : offset + ENTRY.size])
    entry[32:36], entry[36:40] = (77).to_bytes(4, "big"), bytes(4)
    overwrite(image, offset, bytes(entry) + b"1first")
    overwrite(image, NUMBER_OF_SNAPSHOTS, (1).to_bytes(4, "big"))
    (found,) = snapshots(image)
    assert (found.id, found.name) == ("1", "first")
    assert (found.vm_state_size, found.icount, found.disk_size) == (77, None, 2 << 20)


def test_more_snapshots_than_there_are_is_an_error(image):
    overwrite(image, NUMBER_OF_SNAPSHOTS, (65536).to_bytes(4, "big"))
    with pytest.raises(ImageFormatError, match="past the end"):
        snapshots(image)


def test_extra_data_beyond_the_limit_is_an_error(image):
    overwrite(image, table_offset(image) + 36, (MAX_EXTRA_BYTES + 1).to_bytes(4, "big"))
    with pytest.raises(ImageFormatError, match="Too much extra metadata in snapshot table entry 0"):
        snapshots(image)


def test_a_name_that_leaves_the_file_is_an_error(image):
    overwrite(image, table_offset(image) + 12, b"\xff\xff\xff\xff")
    with pytest.raises(ImageFormatError, match="past the end"):
        snapshots(image)


@given(data=st.binary(max_size=400), count=st.integers(0, 65536))
def test_no_table_makes_it_fail_otherwise(tmp_path_factory, data, count):
    path = tmp_path_factory.mktemp("hostile") / "disk.qcow2"
    path.write_bytes(data)
    header = new_header(1 << 20, Qcow2Options(), None)
    with HostFile.open(path) as file:
        try:
            found = read_snapshots(file, header._replace(nb_snapshots=count, snapshots_offset=0))
        except CowherdError:
            return
    assert len(found) == count
    assert sum(len(one.name) + len(one.id) for one in found) <= len(data)


def overwritten_table(image, *, l1_size: int | None = None, l1_offset: int | None = None, disk_size: int | None = None) -> None:
    """Changes the first entry of the snapshot table."""
    offset = table_offset(image)
    for place, width, value in ((0, 8, l1_offset), (8, 4, l1_size), (ENTRY.size + 8, 8, disk_size)):
        if value is not None:
            overwrite(image, offset + place, value.to_bytes(width, "big"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"l1_size": 0}, "too small"),
        ({"l1_size": (32 << 20) // 8 + 1}, "too large"),
        ({"l1_offset": 12345}, "offset"),
        ({"l1_offset": 0}, "offset"),
        ({"l1_offset": 1 << 60}, "offset"),
        ({"disk_size": 1 << 63}, "a disk of"),
        ({"disk_size": 1 << 62}, "too small"),
    ],
)
def test_a_snapshot_whose_table_makes_no_sense_is_not_followed(image, changes, problem):
    overwritten_table(image, **changes)
    with open_qcow2(image) as disk, pytest.raises(ImageFormatError, match=rf"snapshot 1 \(first\): .*{problem}"):
        disk.at_snapshot(disk.snapshots()[0])


def test_a_snapshot_of_an_empty_disk_has_no_extents(image):
    overwritten_table(image, disk_size=0, l1_size=0)
    with open_qcow2(image) as disk:
        assert disk.at_snapshot(disk.snapshots()[0]).size == 0


def test_snapshots_that_name_one_table_over_and_over_are_not_followed(image):
    """A file of some MiB could otherwise keep a reader busy for days."""
    entry = ENTRY.pack(
        dict.fromkeys(("date_seconds", "date_nanoseconds", "vm_clock_nanoseconds", "vm_state_size_small", "extra_length"), 0)
        | {"l1_offset": 1 << 16, "l1_size": (32 << 20) // 8, "id_length": 0, "name_length": 0}
    )
    place = image.stat().st_size + 65535 & ~65535
    overwrite(image, place, entry * 1000)
    overwrite(image, SNAPSHOTS_OFFSET, place.to_bytes(8, "big"))
    overwrite(image, NUMBER_OF_SNAPSHOTS, (1000).to_bytes(4, "big"))
    with open_qcow2(image) as disk, pytest.raises(ImageFormatError, match="overlap"):
        disk.snapshots()
