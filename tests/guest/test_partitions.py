from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.guest.partitions import outside, read_partitions
from cowherd.guest.source import Cached, Malformed
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
    table = read_partitions(disk)
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
    table = read_partitions(disk)
    assert outside(table, disk.size).tolist() == [[512, MIB], [9 * MIB, 20 * MIB], [28 * MIB, 64 * MIB]]


def test_a_boot_sector_of_a_file_system_is_no_partition_table():
    sector = bytearray(b"\xeb\x3c\x90mkfs.fat" + b"text" * 200)[:510] + b"\x55\xaa"
    assert read_partitions(disk_of(bytes(sector) + bytes(MIB))) is None


def test_a_gpt_whose_checksum_is_wrong_is_not_believed(sfdisk):
    disk, _ = sfdisk("label: gpt\nsize=8M\n")
    data = bytearray(disk.read(0, MIB)) + bytes(63 * MIB)
    data[1024 + 32] ^= 1
    with pytest.raises(Malformed, match="checksum"):
        read_partitions(disk_of(bytes(data)))


def test_logical_partitions_that_go_in_circles_are_refused(sfdisk):
    disk, _ = sfdisk("label: dos\ntype=f\nsize=4M\nsize=5M\n")
    data = bytearray(disk.read(0, 2 * MIB)) + bytes(62 * MIB)
    data[MIB + 462 + 8 : MIB + 462 + 12] = bytes(4)
    with pytest.raises(Malformed, match="circles"):
        read_partitions(disk_of(bytes(data)))


@given(st.binary(min_size=512, max_size=2048), st.sampled_from([0, 0xEE, 0x0F, 0x83]))
def test_any_bytes_are_a_table_or_refused(data, kind):
    sector = bytearray(data.ljust(4096, b"\0"))
    sector[450] = kind
    sector[446] &= 0x80
    sector[510:512] = b"\x55\xaa"
    disk = disk_of(bytes(sector) + bytes(1 << 16))
    try:
        table = read_partitions(disk)
    except Malformed:
        return
    assert table is None or all(part.start + part.length <= disk.size for part in table.partitions)
