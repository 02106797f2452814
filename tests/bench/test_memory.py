"""Memory is made ready before a run, and given back."""

from __future__ import annotations

import mmap
import os
import resource
from pathlib import Path

import pytest

from bench import memory


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_every_page_is_taken_once_and_given_back(tmp_path: Path):
    before, held = _faults(), memory_held()
    memory.touch(64 * mmap.PAGESIZE, tmp_path)
    assert _faults() - before >= 64
    assert memory_held() - held < 64 * mmap.PAGESIZE


def test_no_more_than_half_of_what_is_there_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    taken: list[int] = []
    real = mmap.mmap

    def noted(fileno: int, length: int, **options: int) -> mmap.mmap:
        taken.append(length)
        return real(fileno, length, **options)

    monkeypatch.setattr(os, "sysconf", lambda name: 10)
    monkeypatch.setattr(mmap, "mmap", noted)
    memory.touch(1 << 40, tmp_path)
    assert taken == [5 * mmap.PAGESIZE]


def test_the_page_cache_is_filled_by_writes_of_both_lengths_and_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written: list[int] = []
    monkeypatch.setattr(os, "write", lambda fd, content: written.append(len(content)))
    memory.touch(4 << 20, tmp_path)
    assert written == [1 << 20] * 4 + [2 << 20] * 2
    assert not list(tmp_path.iterdir())


def memory_held() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * mmap.PAGESIZE
