"""`impact --files` where a disk can be read in more than one way, against what the kernel shows of the file system in use."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from pathlib import Path

import pytest

from cowherd.herd.impact.files import impact_on_files
from cowherd.herd.overlays.clone import clone
from tests.guest import truth
from tests.guest.layouts import FILE_SYSTEM_BYTES, LAYOUTS, MIB, SIZE, boot_record, make_file_system, patch
from tests.guest.truth import EXT4
from tests.storage.hosts import require_root, run

pytestmark = pytest.mark.qemu("qemu-io")

KIND = dataclasses.replace(EXT4, size=FILE_SYSTEM_BYTES, mount=("mount", "-t", "ext4"))
LARGER = {"xfs then mbr": 40 * MIB, "btrfs then gpt": 128 * MIB}
"""What must be larger than other disks for the old file system to fit."""


class Disk:
    """A raw base with one file, `data`, in the file system that is in use, and an overlay."""

    def __init__(self, tmp_path: Path, name: str):
        require_root()
        truth.require("mke2fs")
        self.scratch, herd = tmp_path, tmp_path / "herd"
        herd.mkdir()
        self.base = herd / "base.raw"
        with self.base.open("wb") as file:
            file.truncate(LARGER.get(name, SIZE))
        self.start = LAYOUTS[name](self.base)
        make_file_system(self.base, self.start)
        data = os.urandom(MIB)
        self.digest = hashlib.sha256(data).hexdigest()
        with truth.mounted(self.base, KIND, offset=self.start) as folder:
            (folder / "data").write_bytes(data)
        self.overlay = clone(self.base, herd / "overlay", base_format="raw").overlay
        self.donor = tmp_path / "donor.raw"

    def write_in_guest(self, image: Path, work, format: str) -> None:
        truth.guest_writes(image, self.scratch, KIND, work, format=format, offset=self.start)

    def write_notes(self) -> None:
        """The overlay's guest makes some files."""
        self.write_in_guest(self.overlay, make_notes, "qcow2")

    def open_base(self) -> None:
        """Keeps the old content and lets the base be changed."""
        shutil.copy(self.base, self.donor)
        self.base.chmod(0o644)

    def judged(self):
        donors = [self.donor] if self.donor.exists() else []
        return impact_on_files(self.base, donors=donors).overlays[0]


def make_notes(folder: Path) -> None:
    for number in range(20):
        (folder / f"note{number}").write_text("mine")


def overwrite(folder: Path) -> None:
    with (folder / "data").open("r+b") as file:
        file.write(os.urandom(MIB // 2))


def changed_files(hit) -> set[str]:
    return {path for found in hit.inside.files.values() for path in found.changed}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_that_holds_other_bytes_is_never_called_unharmed(tmp_path, name):
    disk = Disk(tmp_path, name)
    disk.write_notes()
    disk.open_base()
    disk.write_in_guest(disk.base, overwrite, "raw")
    assert truth.listing_of(disk.overlay, tmp_path, KIND, disk.start)["/data"] != disk.digest
    hit = disk.judged()
    assert hit.verdict in ("altered", "torn")
    assert "/data" in changed_files(hit) or hit.inside.unknown


@pytest.mark.parametrize("name", ["ext4 then mbr", "lvm then mbr", "ext4 then a sun label"])
def test_neither_is_it_without_the_old_content(tmp_path, name):
    disk = Disk(tmp_path, name)
    disk.write_notes()
    disk.base.chmod(0o644)
    disk.write_in_guest(disk.base, overwrite, "raw")
    hit = disk.judged()
    assert hit.verdict in ("altered", "torn")
    assert hit.inside.unknown


def test_both_are_named_where_a_file_system_was_left_behind_under_a_partition_table(tmp_path):
    disk = Disk(tmp_path, "ext4 then mbr")
    disk.write_notes()
    disk.open_base()
    disk.write_in_guest(disk.base, overwrite, "raw")
    hit = disk.judged()
    assert hit.verdict == "altered"
    assert {(place, *found.changed) for place, found in hit.inside.files.items()} == {("partition 1", "/data")}
    ((place, _, reason),) = hit.inside.unknown
    assert place == "the whole disk"
    assert "ext beside a partition table (MBR), which is believed" in reason


def test_free_space_is_harmless_where_what_was_left_behind_makes_no_sense_any_more(tmp_path):
    disk = Disk(tmp_path, "ext4 then mbr")
    disk.write_notes()
    disk.open_base()
    patch(disk.base, disk.start + FILE_SYSTEM_BYTES - MIB // 2, b"free" * 1000)
    assert disk.judged().verdict == "harmless"


def test_a_rival_that_makes_sense_counts(tmp_path):
    """An old file system with a file of its own, of which the partition's has overwritten nothing."""
    require_root()
    truth.require("mke2fs", "sfdisk")
    base = tmp_path / "base.raw"
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "old").write_bytes(os.urandom(MIB))
    run("mke2fs", "-q", "-t", "ext4", "-b", "1024", "-O", "^resize_inode", "-d", folder, base, "8M")
    with base.open("r+b") as file:
        file.truncate(SIZE)
    at = base.read_bytes().index((folder / "old").read_bytes()[:1024])
    patch(base, 446, boot_record((0x83, 9 * MIB // 512, 14 * MIB // 512)))
    make_file_system(base, 9 * MIB)
    overlay = clone(base, tmp_path / "overlay", base_format="raw").overlay
    truth.write(overlay, f"write -P 1 {at + 512 * 1024} 64k")
    donor = shutil.copy(base, tmp_path / "donor.raw")
    base.chmod(0o644)
    patch(base, at, b"other")
    (hit,) = impact_on_files(base, donors=[donor]).overlays
    assert hit.verdict != "harmless"
    assert changed_files(hit) == {"/old"}


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize("has_donor", [True, False])
def test_a_disk_whose_table_was_wiped_is_not_unharmed(tmp_path, writes, has_donor):
    disk = Disk(tmp_path, "ext4 then mbr")
    if writes:
        disk.write_notes()
    disk.open_base()
    patch(disk.base, 446, bytes(64))
    if not has_donor:
        disk.donor.unlink()
    hit = disk.judged()
    assert hit.verdict == ("torn" if writes else "synchronised")
    if has_donor:
        assert "/data" in {path for found in hit.inside.files.values() for path in found.lost}
