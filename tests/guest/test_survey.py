"""What a disk is taken for, where it looks like more than one thing."""

from __future__ import annotations

import struct

import pytest

from cowherd.guest.partitions import read_tables
from cowherd.guest.signatures import recognised
from cowherd.guest.source import Cached, Volume
from cowherd.guest.survey import survey
from tests.guest import truth
from tests.guest.layouts import LAYOUTS, MIB, SIZE, make_file_system, patch, raid_superblock
from tests.storage.hosts import run


def disk_of(data: bytes) -> Cached:
    return Cached(lambda offset, length: data[offset : offset + length], len(data))


def chart_of(raw):
    return survey(disk_of(raw.read_bytes()))


def names(data: bytes) -> list[str]:
    return [seen.signature.name for seen in recognised(Volume(disk_of(data), "disk", [(0, len(data))]))]


def sized(path, size=SIZE):
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize("name", ["ext4 then mbr", "fat then mbr", "swap then mbr"])
def test_the_partition_table_is_believed_and_what_stands_beside_it_is_a_rival(tmp_path, name):
    raw = sized(tmp_path / "raw")
    make_file_system(raw, LAYOUTS[name](raw))
    chart = chart_of(raw)
    assert [system.place for system in chart.systems if not system.rival] == ["partition 1"]
    assert [system.place for system in chart.systems if system.rival] == ["the whole disk"] * (name != "swap then mbr")


@pytest.mark.parametrize("at", [0, 4096, SIZE - 8192])
def test_a_raid_is_recognised_at_the_places_that_blkid_knows(tmp_path, at):
    truth.require("blkid")
    raw = sized(tmp_path / "raw")
    patch(raw, at, raid_superblock(at, data=(2 * MIB, 20 * MIB) if at < MIB else (0, at)))
    assert "linux_raid_member" in run("blkid", "-p", "-o", "export", raw)
    assert names(raw.read_bytes()) == ["Linux RAID"]


def test_a_raid_superblock_that_says_that_it_lies_elsewhere_is_none(tmp_path):
    raw = sized(tmp_path / "raw")
    patch(raw, 4096, raid_superblock(0, data=(2 * MIB, 20 * MIB)))
    assert names(raw.read_bytes()) == []


def test_swap_space_counts_as_unused_only_where_nothing_else_is_recognised(tmp_path):
    truth.require("mkswap")
    raw = sized(tmp_path / "raw")
    run("mkswap", "-q", raw)
    assert names(raw.read_bytes()) == ["swap space"]
    patch(raw, 4096, raid_superblock(4096, level=0, data=(2 * MIB, 20 * MIB)))
    assert [part.idle for part in chart_of(raw).uncharted] == [False]


def test_a_suspended_system_in_swap_space_is_not_unused(tmp_path):
    raw = sized(tmp_path / "raw")
    patch(raw, 4086, b"S1SUSPEND\0")
    assert [part.idle for part in chart_of(raw).uncharted] == [False]


def test_a_copy_of_a_superblock_is_no_file_system(tmp_path):
    truth.require("mke2fs")
    raw = sized(tmp_path / "raw", 64 * MIB)
    run("mke2fs", "-q", "-t", "ext2", "-b", "1024", raw)
    data = raw.read_bytes()
    assert names(data) == ["ext"]
    assert data[8 * MIB + 1080 : 8 * MIB + 1082] == b"\x53\xef"
    assert names(data[8 * MIB :]) == []


def test_a_fat_without_its_name_is_recognised_by_its_numbers(tmp_path):
    truth.require("mkfs.fat")
    raw = sized(tmp_path / "raw")
    run("mkfs.fat", raw)
    patch(raw, 54, b"        ")
    assert names(raw.read_bytes()) == ["FAT"]


def test_the_boot_sector_of_a_file_system_is_not_taken_for_a_table(tmp_path):
    truth.require("mkfs.fat", "mkfs.ntfs")
    for command in (["mkfs.fat"], ["mkfs.ntfs", "-q", "-F"]):
        raw = sized(tmp_path / "raw")
        run(*command, raw)
        assert read_tables(disk_of(raw.read_bytes())).found == ()


def test_a_table_inside_of_a_partition_is_not_followed_and_not_ignored(tmp_path):
    raw = sized(tmp_path / "raw")
    LAYOUTS["ext4 then a table inside of a partition"](raw)
    reasons = {part.reason for part in chart_of(raw).uncharted if part.place == "partition 1"}
    assert any("a partition table of its own" in reason for reason in reasons)


def test_a_lone_file_system_has_no_rival_and_nothing_is_noted(tmp_path):
    truth.require("mke2fs")
    raw = sized(tmp_path / "raw")
    make_file_system(raw, 0)
    chart = chart_of(raw)
    assert ([system.rival for system in chart.systems], chart.notes) == ([False], ())


def test_a_mirror_is_read_as_what_it_holds(tmp_path):
    raw = sized(tmp_path / "raw")
    patch(raw, 4096, raid_superblock(4096, data=(2 * MIB, 20 * MIB)))
    make_file_system(raw, 2 * MIB)
    assert [system.place for system in chart_of(raw).systems] == ["the RAID on the whole disk"]


def test_partition_entries_that_no_table_can_have_leave_the_file_system(tmp_path):
    truth.require("mke2fs")
    raw = sized(tmp_path / "raw")
    make_file_system(raw, 0)
    patch(raw, 446, struct.pack("<B3xB3xII", 0x21, 0x83, 2048, 2048).ljust(64, b"\0") + b"\x55\xaa")
    assert [system.place for system in chart_of(raw).systems] == ["the whole disk"]
