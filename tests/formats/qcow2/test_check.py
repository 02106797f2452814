"""The check against qemu-img's, over sound images and over images damaged on purpose: every number and every message."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd.formats.qcow2 import damage, layout, references
from cowherd.formats.qcow2.header import read_header, write_header
from cowherd.formats.qcow2.report import CheckReport
from cowherd.formats.qcow2.snapshots import ENTRY
from cowherd.storage.hostfile import HostFile
from tests.formats.qcow2.damaging import COMPRESSED, COPIED, Damager, assert_same_check, checked, checked_fully
from tests.images import MATRIX, TELLING, Features, create_with_cowherd, create_with_qemu, run_in_qemu, workload
from tests.qemu import Tool

pytestmark = pytest.mark.qemu("qemu-io")

SIZE = 4 << 20


@pytest.fixture
def image(tmp_path: Path, qemu_img: Tool, qemu_io: Tool) -> Damager:
    """An image of 64 KiB clusters with data, a compressed cluster, both kinds of zero clusters and holes."""
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, SIZE)
    commands = ["write 0 512k", "write -c 512k 64k", "write -z 640k 64k", "write 1M 128k", "write -z 1M 64k"]
    qemu_io("-f", "qcow2", *(word for command in commands for word in ("-c", command)), path)
    assert not checked(path).messages
    return Damager(path)


@pytest.fixture
def extended(tmp_path: Path, qemu_img: Tool, qemu_io: Tool) -> Damager:
    """An image with subclusters, some clusters of which are partly written."""
    path = tmp_path / "extended.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=64k", path, SIZE)
    commands = ["write 0 128k", "write 256k 6k", "write -z 264k 4k", "write -c 512k 64k"]
    qemu_io("-f", "qcow2", *(word for command in commands for word in ("-c", command)), path)
    return Damager(path)


# Sound images


@pytest.mark.parametrize("features", MATRIX, ids=str)
def test_an_image_that_qemu_wrote_is_sound(tmp_path: Path, features: Features):
    path = create_with_qemu(tmp_path / "image.qcow2", features, features.odd_size)
    run_in_qemu(path, workload(1, features, features.odd_size), features)
    report = assert_same_check(path)
    assert (report.corruptions, report.leaks, report.check_errors) == (0, 0, 0)
    assert report.allocated_clusters


@pytest.mark.parametrize("options", ["preallocation=metadata", "preallocation=metadata,extended_l2=on", "cluster_size=512"])
def test_a_fully_mapped_image_is_sound(tmp_path: Path, qemu_img: Tool, options: str):
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, path, "256M" if "metadata" in options else "1M")
    report = assert_same_check(path)
    assert report.messages == ()


@pytest.mark.parametrize("width", [2, 16, 64])
def test_what_snapshots_share_counts_once_for_each(tmp_path: Path, qemu_img: Tool, qemu_io: Tool, width: int):
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"refcount_bits={width},cluster_size=4k", path, SIZE)
    qemu_io("-f", "qcow2", "-c", "write 0 1M", "-c", "write -c 2M 4k", path)
    qemu_img("snapshot", "-c", "one", path)
    qemu_io("-f", "qcow2", "-c", "write 0 256k", path)
    qemu_img("snapshot", "-c", "two", path)
    assert assert_same_check(path).messages == ()


def test_persistent_bitmaps_count(tmp_path: Path, qemu_img: Tool, qemu_io: Tool):
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "64M")
    qemu_img("bitmap", "--add", "-g", "512", path, "first")
    qemu_img("bitmap", "--add", path, "second")
    qemu_io("-f", "qcow2", "-c", "write 0 1M", path)
    assert assert_same_check(path).messages == ()


def test_an_encryption_header_counts(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), 1 << 20)
    image = Damager(path)
    first = image.clusters
    for cluster in (first, first + 1):
        os.truncate(path, (cluster + 1) << 16)
        image.set_refcount(cluster, 1)
    assert checked(path).leaks == 2
    with HostFile.open(path, writable=True) as file:
        place = references.ENCRYPTION.pack({"offset": first << 16, "length": 70_000})
        header = read_header(file)._replace(crypt_method=2).with_extension(layout.EXTENSION_ENCRYPTION, place)
        write_header(file, header)
    assert checked(path).messages == ()


def test_an_empty_image_is_sound(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), 0)
    assert assert_same_check(path).messages == ()


def test_fragments_are_counted(tmp_path: Path, qemu_img: Tool, qemu_io: Tool):
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, SIZE)
    qemu_io("-f", "qcow2", *(word for at in (3, 1, 2, 9, 8) for word in ("-c", f"write {at * 65536} 64k")), path)
    assert assert_same_check(path).fragmented_clusters == 3


# Damaged images


def grow_with_a_leak(image: Damager) -> None:
    os.truncate(image.path, os.path.getsize(image.path) + 65536)
    image.set_refcount(image.clusters - 1, 1)


def put_run(image: Damager, entry: int, word: int, number: int) -> None:
    """Writes entries each of which is a cluster more than the one before."""
    for index in range(number):
        image.put(image.l2(entry + index), word + 65536 * index)


def put_both(image: Damager, entry: int, word: int, bitmap: int) -> None:
    image.put(image.l2(entry), word)
    image.put(image.l2(entry) + 8, bitmap)


DAMAGES: dict[str, Callable[[Damager], None]] = {
    "leak": lambda d: d.set_refcount(d.clusters - 1, 7),
    "leak behind the last cluster in use": grow_with_a_leak,
    "refcount 0 of a cluster in use": lambda d: d.set_refcount(d.cluster_of(d.l2(1)), 0),
    "refcount too low": lambda d: d.put(d.l2(2), d.word(d.l2(3))),
    "refcount too high": lambda d: d.set_refcount(d.cluster_of(d.l2(1)), 9),
    "refcount of the header": lambda d: d.set_refcount(0, 0),
    "copied flag missing": lambda d: d.put(d.l2(1), d.word(d.l2(1)) & ~COPIED),
    "copied flag of a shared cluster": lambda d: d.set_refcount(d.cluster_of(d.l2(1)), 2),
    "copied flag of the L2 table": lambda d: d.put(d.l1(), d.word(d.l1()) & ~COPIED),
    "copied flag of a compressed cluster": lambda d: d.put(d.l2(8), d.word(d.l2(8)) | COPIED),
    "data inside a cluster": lambda d: d.put(d.l2(1), d.word(d.l2(1)) + 512),
    "zeros inside a cluster": lambda d: d.put(d.l2(1), d.word(d.l2(1)) + 512 | 1),
    "data past the end": lambda d: d.put(d.l2(1), 1 << 40 | COPIED),
    "data in the first cluster past the end": lambda d: d.put(d.l2(1), d.clusters << 16 | COPIED),
    "data across the end": lambda d: d.put(d.l2(1), (d.clusters << 16) - 512 | COPIED),
    "data at the largest offset": lambda d: d.put(d.l2(1), 0x00FF_FFFF_FFFF_0000 | COPIED),
    "compressed past the end": lambda d: d.put(d.l2(8), COMPRESSED | 1 << 40),
    "compressed across the end": lambda d: d.put(d.l2(8), COMPRESSED | 0xFF << 54 | (d.clusters << 16) - 512),
    "compressed, all bits set": lambda d: d.put(d.l2(8), (1 << 64) - 1),
    "reserved bits of an L2 entry": lambda d: d.put(d.l2(1), d.word(d.l2(1)) | 1 << 60 | 4),
    "reserved bits of an empty L2 entry": lambda d: d.put(d.l2(60), 1 << 57),
    "an empty entry that looks like the start of a run": lambda d: put_run(d, 60, COPIED, 4),
    "a zero cluster that looks like the start of a run": lambda d: put_run(d, 60, COPIED | 1, 4),
    "a run that counts into the reserved bits": lambda d: put_run(d, 60, 0x00FF_FFFF_FFFF_0000 | COPIED, 2),
    "compressed clusters that look like a run": lambda d: put_run(d, 40, COMPRESSED | 0x50000, 6),
    "reserved bits of an L1 entry": lambda d: d.put(d.l1(), d.word(d.l1()) | 1 << 58 | 1),
    "L1 entry with flags only": lambda d: d.put(d.l1(), COPIED),
    "L2 table inside a cluster": lambda d: d.put(d.l1(), d.word(d.l1()) + 1024),
    "L2 table past the end": lambda d: d.put(d.l1(), 1 << 45 | COPIED),
    "L2 table over the header": lambda d: d.put(d.l2(1), COPIED | d.word(d.l1()) & ~COPIED),
    "data over the refcount table": lambda d: d.put(d.l2(1), COPIED | 0x10000),
    "data over the refcount block": lambda d: d.put(d.l2(1), COPIED | 0x20000),
    "refcount table entry with reserved bits": lambda d: d.put(d.refcount_table(), d.word(d.refcount_table()) | 6),
    "refcount block inside a cluster": lambda d: d.put(d.refcount_table(), d.word(d.refcount_table()) + 512),
    "refcount block past the end": lambda d: d.put(d.refcount_table(1), 1 << 40),
    "refcount block at the largest offset": lambda d: d.put(d.refcount_table(3), 0xFFFF_FFFF_FFFF_0000),
    "refcount block named twice": lambda d: d.put(d.refcount_table(1), d.word(d.refcount_table())),
    "no refcount block": lambda d: d.put(d.refcount_table(), 0),
    "file cut in the data": lambda d: os.truncate(d.path, os.path.getsize(d.path) - 70000),
    "file cut behind the tables": lambda d: os.truncate(d.path, 5 * 65536 + 100),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_reported_as_qemu_img_does(image: Damager, name: str):
    before = checked(image.path)
    DAMAGES[name](image)
    report = assert_same_check(image.path)
    assert report != before
    assert report.corruptions or report.leaks or report.check_errors


EXTENDED_DAMAGES: dict[str, Callable[[Damager], None]] = {
    "allocated and zero": lambda d: d.put(d.l2(0) + 8, 0x0000_0001_0000_0001),
    "allocated without a cluster": lambda d: d.put(d.l2(40) + 8, 0x0000_0000_0000_0010),
    "allocated, flags only": lambda d: put_both(d, 40, COPIED, 3),
    "compressed with a bitmap": lambda d: d.put(d.l2(8) + 8, 0x0000_0000_0000_0001),
    "compressed and copied with a bitmap": lambda d: put_both(d, 8, d.word(d.l2(8)) | COPIED, 1),
    "data inside a cluster": lambda d: d.put(d.l2(0), d.word(d.l2(0)) + 2048),
    "zeros inside a cluster": lambda d: put_both(d, 0, d.word(d.l2(0)) + 2048, 0xFF << 32),
    "zero flag of a standard entry": lambda d: d.put(d.l2(0), d.word(d.l2(0)) | 1),
}  # fmt: skip


@pytest.mark.parametrize("name", EXTENDED_DAMAGES)
def test_damage_to_subclusters_is_reported_as_qemu_img_does(extended: Damager, name: str):
    before = checked(extended.path)
    assert not before.messages
    EXTENDED_DAMAGES[name](extended)
    report = assert_same_check(extended.path)
    # QEMU makes nothing of the zero flag here: with subclusters the bitmap says what is zero.
    assert bool(report.corruptions) == (name != "zero flag of a standard entry")


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16, 32, 64])
def test_wrong_refcounts_of_every_width_are_found(tmp_path: Path, qemu_img: Tool, qemu_io: Tool, width: int):
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"refcount_bits={width},cluster_size=512", path, SIZE)
    qemu_io("-f", "qcow2", "-c", "write 0 1M", path)
    image = Damager(path)
    image.set_refcount(image.cluster_of(image.l2(1)), 0)
    image.set_refcount(image.clusters - 1, (1 << width) - 1)
    image.put(image.l2(5), image.word(image.l2(6)))
    # Messages about refcounts that have no room stand in another order than QEMU's.
    report = assert_same_check(path, ordered=width > 1)
    assert report.corruptions >= 3


def test_damaged_tables_of_snapshots_are_found(tmp_path: Path, qemu_img: Tool, qemu_io: Tool):
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, SIZE)
    qemu_io("-f", "qcow2", "-c", "write 0 1M", path)
    for name in ("one", "two", "three"):
        qemu_img("snapshot", "-c", name, path)
        qemu_io("-f", "qcow2", "-c", "write 0 64k", path)
    image = Damager(path)
    table = image.header.snapshots_offset
    first, second = image.word(table), image.word(image.word(table))
    image.put((second & ~COPIED) + 24, 1 << 40)  # an L2 entry that the three snapshots do not share
    assert assert_same_check(path).corruptions
    image.put(table, first + 512)
    assert "L1 table is not cluster aligned" in assert_same_check(path).messages[0]
    image.put(table, first)
    image.put_bytes(table + 8, (layout.MAX_L1_BYTES // 8 + 1).to_bytes(4, "big"))
    assert any("L1 table is too large" in line for line in assert_same_check(path).messages)


def test_a_snapshot_entry_without_the_data_of_version_3_is_incomplete(tmp_path: Path, qemu_img: Tool):
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "compat=0.10", path, SIZE)
    qemu_img("snapshot", "-c", "one", path)
    image = Damager(path)
    table = image.header.snapshots_offset
    image.put_bytes(table + 36, bytes(4))
    assert_same_check(path)
    qemu_img("create", "-q", "-f", "qcow2", path, SIZE)
    qemu_img("snapshot", "-c", "one", path)
    image.put_bytes(image.header.snapshots_offset + 36, bytes(4))
    assert assert_same_check(path).messages[0] == "ERROR snapshot table entry 0 is incomplete"


def test_an_image_cut_before_its_snapshot_table_is_reported(tmp_path: Path, qemu_img: Tool, qemu_io: Tool):
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, SIZE)
    qemu_io("-f", "qcow2", "-c", "write 0 1M", path)
    qemu_img("snapshot", "-c", "one", path)
    os.truncate(path, 8 * 65536)
    assert assert_same_check(path).corruptions


def test_a_damaged_bitmap_table_is_an_error(tmp_path: Path, qemu_img: Tool):
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, SIZE)
    qemu_img("bitmap", "--add", path, "first")
    image = Damager(path)
    data = image.header.extension(layout.EXTENSION_BITMAPS)
    assert data is not None
    image.put(image.word(int.from_bytes(data[16:24], "big")), 1 << 60)
    assert checked(path).check_errors == 1


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), number=st.integers(1, 5), features=st.sampled_from(TELLING))
def test_random_damage_is_reported_as_qemu_img_does(
    tmp_path_factory: pytest.TempPathFactory, seed: int, number: int, features: Features
):
    path = tmp_path_factory.mktemp("random") / "image.qcow2"
    create_with_qemu(path, features, features.odd_size)
    run_in_qemu(path, workload(seed % 5, features, features.odd_size, 8), features)
    image, random = Damager(path), np.random.default_rng(seed)
    tables = [image.l2(0, index) for index in range(image.header.l1_size) if image.word(image.l1(index))]
    for _ in range(number):
        base = int(random.choice([*tables, *tables, image.l1(), image.refcount_table(), image.word(image.refcount_table())]))
        place = base + 8 * int(random.integers(0, 40))
        inside = int(random.integers(0, os.path.getsize(path) // 512)) * 512
        bit = 1 << int(random.integers(0, 64))
        image.put(place, int(random.choice(np.array([image.word(place) ^ bit, inside, inside | COPIED, bit], object))))
    report = checked(path)
    if not report.messages_cut:
        assert_same_check(path, ordered=not any("overflow" in line for line in report.messages))
    path.unlink()


# Limits


def test_a_long_list_of_messages_is_cut_but_everything_is_counted(image: Damager):
    os.truncate(image.path, os.path.getsize(image.path) + 65536 * 30_000)
    block = image.word(image.refcount_table())
    image.put_bytes(block + 2 * 100, b"\0\1" * 25_000)
    report = checked(image.path)
    assert len(report.messages) == damage.MOST_MESSAGES
    assert report.messages_cut
    assert report.leaks == 25_000


def test_one_l2_table_under_every_l1_entry_is_read_once(image: Damager, monkeypatch: pytest.MonkeyPatch):
    reads: list[int] = []
    read = references.ClusterReader.read

    def counting(reader: references.ClusterReader, offsets: np.ndarray) -> np.ndarray:
        reads.append(len(offsets))
        return read(reader, offsets)

    monkeypatch.setattr(references.ClusterReader, "read", counting)
    entries = layout.MAX_L1_BYTES // 8
    table = image.word(image.l1())
    image.put_bytes(36, entries.to_bytes(4, "big"))
    image.put(40, 1 << 24)
    image.put_bytes(1 << 24, table.to_bytes(8, "big") * entries)
    report = checked_fully(image.path)
    assert sum(reads) == 1 + 2 * 1  # and the only refcount block twice
    assert report.corruptions > entries * 8
    assert report.allocated_clusters == 11 * entries


def test_overlapping_l2_tables_are_not_followed_without_end(image: Damager):
    image.put_bytes(36, (4096).to_bytes(4, "big"))
    os.truncate(image.path, 8 << 20)
    image.put(40, 1 << 24)
    image.put_bytes(1 << 24, b"".join((512 * (index + 1)).to_bytes(8, "big") for index in range(4096)))
    report = checked(image.path)
    assert report.check_errors == 4096 * 127 // 128 - references.MOST_CROOKED_TABLES


def test_overlapping_l1_tables_are_not_followed_without_end(image: Damager):
    snapshots, entries = 1000, layout.MAX_L1_BYTES // 8
    os.truncate(image.path, 8 << 20)
    row = ENTRY.pack(dict.fromkeys(ENTRY.names, 0) | {"l1_offset": 8 << 20, "l1_size": entries, "extra_length": 16})
    image.put_bytes(4 << 20, (row + bytes(16)) * snapshots)
    image.put_bytes(60, snapshots.to_bytes(4, "big") + (4 << 20).to_bytes(8, "big"))
    os.truncate(image.path, 40 << 20)
    report = checked(image.path)
    # The file and one table more could hold two of them beside the active one.
    assert report.check_errors == snapshots - 2
    assert "the L1 tables overlap" in "".join(report.messages)


def test_a_file_of_too_many_clusters_is_not_checked(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(512), 1 << 20)
    os.truncate(path, 512 * (references.MOST_CLUSTERS + 1))
    assert checked(path) == CheckReport(0, 0, 1, 512, 2048, 0, 0, 0, ("ERROR the file has more than 2147483647 clusters",))
