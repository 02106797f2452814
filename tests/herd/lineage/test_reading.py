"""Reading very many files: batches come back whole and in their order, whoever reads them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from bench.herds import header, write_image
from cowherd.herd.lineage import pool, reading
from cowherd.herd.lineage.reading import Readers
from cowherd.herd.records.header import Head, Read


def _files(folder: Path, images: int) -> list[str]:
    names = [f"{number}.qcow2" for number in range(images)]
    for number, name in enumerate(names):
        write_image(folder / name, header(size=(number + 1) << 20))
    return names


def _sizes(folder: Path, names: list[str], together: int) -> list[list[int]]:
    """What comes back of batches of `together` files: the sizes of the disks in MiB."""
    found: list[list[Read | None]] = []
    with Readers() as readers:
        for first in range(0, len(names), together):
            readers.add([(f"{folder}/", names[first : first + together])])
            found.extend(readers.overdue())
        found.extend(readers.rest())
    return [[read.content.size >> 20 for read in reads if read and isinstance(read.content, Head)] for reads in found]


@pytest.mark.parametrize(("images", "many"), [(5, 1000), (90, 1000), (90, 50)], ids=["here", "threads", "processes"])
def test_batches_come_back_whole_and_in_order(tmp_path, monkeypatch, images, many):
    monkeypatch.setattr(reading, "_MANY", many)
    monkeypatch.setattr(pool, "active_count", lambda: 1)
    names = _files(tmp_path, images)
    expected = [[number + 1 for number in range(images)][first : first + 4] for first in range(0, images, 4)]
    assert _sizes(tmp_path, names, 4) == expected


def _first_sizes(batches: Iterable[list[Read | None]]) -> list[int]:
    """The size of the first disk of each batch, in MiB."""
    return [first.content.size >> 20 for first, *_ in batches if first and isinstance(first.content, Head)]


def test_no_more_files_wait_than_may(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_MANY", 10)
    monkeypatch.setattr(reading, "_AT_ONCE", 20)
    names = _files(tmp_path, 60)
    with Readers() as readers:
        for first in range(0, 60, 5):
            readers.add([(f"{tmp_path}/", names[first : first + 5])])
            assert _first_sizes(readers.overdue()) == ([first - 19] if first >= 20 else [])
        assert _first_sizes(readers.rest()) == [41, 46, 51, 56]


def test_what_cannot_be_read_is_none(tmp_path):
    names = _files(tmp_path, 2)
    with Readers() as readers:
        readers.add([(f"{tmp_path}/", [names[0], "gone", names[1]])])
        (found,) = readers.rest()
    assert [read is None for read in found] == [False, True, False]


def _killed_while_reading(folder: Path) -> str:
    """A program whose readers are killed at one of the files."""
    return f"""
import os, signal, sys
from cowherd.herd.lineage import reading
mine, real = os.getpid(), reading.read_image
def dies(path):
    if os.getpid() != mine and path.endswith("/30.qcow2"):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(path)
reading.read_image, reading._MANY = dies, 10
names = [f"{{number}}.qcow2" for number in range(60)]
with reading.Readers() as readers:
    for first in range(0, 60, 5):
        readers.add([({str(folder)!r} + "/", names[first : first + 5])])
    sizes = [read.content.size >> 20 for found in readers.rest() for read in found]
assert sizes == list(range(1, 61)), sizes
"""


def test_files_are_read_all_the_same_if_somebody_kills_the_readers(tmp_path):
    _files(tmp_path, 60)
    done = subprocess.run([sys.executable, "-c", _killed_while_reading(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
