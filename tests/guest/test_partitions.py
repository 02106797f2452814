from __future__ import annotations

import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.guest.partitions import outside, read_tables
from cowherd.guest.source import Cached
from tests.guest import truth

MIB = 1 << 20


@pytest.fixture
def sfdisk(tmp_path):
    """Makes a partition table with sfdisk, and returns a disk with it and what sfdisk says of it."""

    def make(script: str) -> tuple[Cached, list[tuple[int, int, int]]]:
        truth.require("sfdisk")
        raw = tmp_path / "disk"
        with raw.open("wb") as file:
            file.truncate(64 * MIB)
        subprocess.run(["sfdisk", "-q", raw], input=script, text=True, check=True, capture_output=True)
        dump = subprocess.run(["sfdisk", "-d", raw], text=True, check=True, capture_output=True).stdout
        found = []
        for line in dump.splitlines():
            if "start=" in line and "type=f" not in line and "type=5" not in line:
                name, _, rest = line.partition(" : ")
                facts = dict(fact.strip().split("=") for fact in rest.split(",") if "=" in fact)
                found.append((int(name.removeprefix(str(raw))), int(facts["start"]) * 512, int(facts["size"]) * 512))
        return disk_of(raw.read_bytes()), found

    return make


def disk_of(data: bytes) -> Cached:
    return Cached(lambda offset, length: data[offset : offset + length], len(data))


def partitions_of(disk: Cached) -> list[tuple[int, int, int]]:
    table = read_tables(disk).found[0]
    return [(part.number, part.start, part.length) for part in table.partitions]


@pytest.mark.parametrize(
    "script",
    [
        "label: dos\nsize=8M\nsize=16M, type=7\n",
        "label: dos\nsize=8M\ntype=f\nsize=4M\nsize=5M\nsize=6M\n",
        "label: gpt\nsize=8M\nsize=16M\n,\n",
    ],
    ids=["MBR", "logical", "GPT"],
)
def test_partitions_are_those_that_sfdisk_lists(sfdisk, script):
    disk, listed = sfdisk(script)
    assert partitions_of(disk) == listed


def test_what_lies_outside_of_partitions_and_table_is_told(sfdisk):
    disk, _ = sfdisk("label: dos\nstart=2048, size=8M\nstart=40960, size=8M\n")
    table = read_tables(disk).found[0]
    assert outside(table, disk.size).tolist() == [[512, MIB], [9 * MIB, 20 * MIB], [28 * MIB, 64 * MIB]]


def test_a_boot_sector_of_a_file_system_is_no_partition_table():
    sector = bytearray(b"\xeb\x3c\x90mkfs.fat" + b"text" * 200)[:510] + b"\x55\xaa"
    assert read_tables(disk_of(bytes(sector) + bytes(MIB))).found == ()


def test_a_gpt_whose_checksum_is_wrong_is_not_believed(sfdisk):
    disk, _ = sfdisk("label: gpt\nsize=8M\n")
    data = bytearray(disk.read(0, MIB)) + bytes(63 * MIB)
    data[1024 + 32] ^= 1
    tables = read_tables(disk_of(bytes(data)))
    assert tables.found == ()
    assert "checksum" in tables.damage


@pytest.mark.parametrize("damaged", [512 + 24, 1024 + 32])
def test_a_gpt_whose_first_copy_is_damaged_is_read_from_the_second_and_said_so(sfdisk, damaged):
    disk, listed = sfdisk("label: gpt\nsize=8M\nsize=16M\n")
    data = bytearray(disk.read(0, 64 * MIB))
    data[damaged] ^= 1
    disk = disk_of(bytes(data))
    assert partitions_of(disk) == listed
    assert ["end of the disk is believed" in note for note in read_tables(disk).notes] == [True]


def test_a_gpt_without_its_protective_mbr_is_no_table(sfdisk):
    disk, _ = sfdisk("label: gpt\nsize=8M\n")
    tables = read_tables(disk_of(bytes(512) + disk.read(512, 64 * MIB - 512)))
    assert (tables.found, tables.damage) == ((), "")
    assert "left behind" in tables.notes[0]


def test_other_entries_of_a_hybrid_mbr_are_a_second_table(sfdisk):
    disk, listed = sfdisk("label: gpt\nsize=8M\n")
    data = bytearray(disk.read(0, 64 * MIB))
    data[462:478] = struct.pack("<4xB3xII", 0x83, 40960, 2048)
    first, second = read_tables(disk_of(bytes(data))).found
    assert [(part.number, part.start, part.length) for part in first.partitions] == listed
    assert [(part.number, part.start) for part in second.partitions] == [(2, 40960 * 512)]


def test_partitions_that_leave_the_disk_or_overlap_are_taken_as_the_kernel_takes_them(sfdisk):
    disk, _ = sfdisk("label: dos\nstart=2048, size=8M\n")
    data = bytearray(disk.read(0, 512))
    for number, (start, count) in enumerate([(2048, 16384), (4096, 1 << 20), (1 << 20, 8)]):
        data[446 + 16 * number : 462 + 16 * number] = struct.pack("<4xB3xII", 0x83, start, count)
    (table, *_) = read_tables(disk_of(bytes(data) + bytes(64 * MIB - 512))).found
    found = [(part.number, part.start, part.length) for part in table.partitions]
    assert found == [(1, MIB, 8 * MIB), (2, 2 * MIB, 62 * MIB)]
    assert [(problem.place, problem.length) for problem in table.problems] == [("partition 3", 0)]


def test_logical_partitions_that_go_in_circles_are_followed_once_and_said_to_be(sfdisk):
    disk, _ = sfdisk("label: dos\ntype=f\nsize=4M\nsize=5M\n")
    data = bytearray(disk.read(0, 2 * MIB)) + bytes(62 * MIB)
    data[MIB + 462 + 8 : MIB + 462 + 12] = bytes(4)
    (table, *_) = read_tables(disk_of(bytes(data))).found
    assert [part.number for part in table.partitions] == [5]
    assert ["circles" in problem.reason for problem in table.problems] == [True]


@given(st.binary(min_size=512, max_size=2048), st.sampled_from([0, 0xEE, 0x0F, 0x83]))
def test_any_bytes_are_a_table_or_refused(data, kind):
    sector = bytearray(data.ljust(4096, b"\0"))
    sector[450] = kind
    sector[446] &= 0x80
    sector[510:512] = b"\x55\xaa"
    disk = disk_of(bytes(sector) + bytes(1 << 16))
    parts = [part for table in read_tables(disk).found for part in table.partitions]
    assert all(part.start + part.length <= disk.size for part in parts)
