"""Damaging the tables of qcow2 images on purpose, one word at a time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from cowherd.formats import registry
from cowherd.formats.qcow2.check import check
from cowherd.formats.qcow2.header import Header, read_header
from cowherd.formats.qcow2.refcounts import pack_counts, unpack_counts
from cowherd.formats.qcow2.report import CheckReport
from cowherd.storage.hostfile import HostFile
from tests.qemu import Tool

COPIED, COMPRESSED = 1 << 63, 1 << 62
OFFSET = 0x00FF_FFFF_FFFF_FE00


class Damager:
    """Reads and changes the big-endian words of one image's tables."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def header(self) -> Header:
        with HostFile.open(self.path, lock=None) as file:
            return read_header(file)

    def word(self, offset: int) -> int:
        with self.path.open("rb") as file:
            file.seek(offset)
            return int.from_bytes(file.read(8).ljust(8, b"\0"), "big")

    def put(self, offset: int, word: int) -> None:
        self.put_bytes(offset, word.to_bytes(8, "big"))

    def put_bytes(self, offset: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def l1(self, index: int = 0) -> int:
        """The place of an L1 entry."""
        return self.header.l1_table_offset + 8 * index

    def l2(self, index: int, table: int = 0) -> int:
        """The place of the L2 entry `index` of the table under L1 entry `table`."""
        return (self.word(self.l1(table)) & OFFSET) + self.header.l2_entry_size * index

    def refcount_table(self, index: int = 0) -> int:
        """The place of a refcount table entry."""
        return self.header.refcount_table_offset + 8 * index

    def set_refcount(self, cluster: int, count: int) -> None:
        header = self.header
        block, index = divmod(cluster, header.cluster_size * 8 // header.refcount_bits)
        place = self.word(self.refcount_table(block))
        with self.path.open("rb") as file:
            file.seek(place)
            counts = unpack_counts(file.read(header.cluster_size), header.refcount_order).copy()
        counts[index] = np.array([count], np.uint64).astype(counts.dtype)[0]
        self.put_bytes(place, pack_counts(counts, header.refcount_order))

    def cluster_of(self, place: int) -> int:
        """The host cluster that the table entry at `place` points to."""
        return (self.word(place) & OFFSET) // self.header.cluster_size

    @property
    def clusters(self) -> int:
        return -(-os.path.getsize(self.path) // self.header.cluster_size)


def checked(path: Path) -> CheckReport:
    """What cowherd's check finds, whether or not it is told first whether all is plain and sound."""
    found = checked_fully(path)
    with HostFile.open(path, lock=None) as file:
        assert registry.named("qcow2").check(file) == found
    return found


def checked_fully(path: Path) -> CheckReport:
    """What the full check finds."""
    with HostFile.open(path, lock=None) as file:
        return check(file, read_header(file))


def checked_by_qemu(path: Path) -> tuple[dict[str, int], list[str]]:
    """The numbers and messages of `qemu-img check`, the numbers under cowherd's names."""
    done = Tool("qemu-img").run("check", "-f", "qcow2", "--output=json", path)
    document: dict[str, Any] = json.loads(done.stdout)
    names = [name for name in CheckReport._fields if not name.startswith("messages")]
    numbers = {name: document.get(name.replace("_", "-"), 0) for name in names}
    messages = [line for line in done.stderr.splitlines() if line != "qemu-img: Check failed"]
    return numbers, messages


def assert_same_check(path: Path, *, ordered: bool = True) -> CheckReport:
    """Fails where cowherd's check and qemu-img's differ in a number or a message; returns cowherd's."""
    report = checked(path)
    numbers, messages = checked_by_qemu(path)
    assert {name: getattr(report, name) for name in numbers} == numbers
    mine = list(report.messages)
    if ordered:
        assert mine == messages
    else:
        assert sorted(mine) == sorted(messages)
    return report
