"""Memory is made ready before a run, and given back."""

from __future__ import annotations

import mmap
import os
import resource

import pytest

from bench import memory


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_every_page_is_taken_once_and_given_back():
    before, held = _faults(), memory_held()
    memory.touch(64 * mmap.PAGESIZE)
    assert _faults() - before >= 64
    assert memory_held() - held < 64 * mmap.PAGESIZE


def test_no_more_than_half_of_what_is_there_is_taken(monkeypatch: pytest.MonkeyPatch):
    taken: list[int] = []
    real = mmap.mmap

    def noted(fileno: int, length: int, **options: int) -> mmap.mmap:
        taken.append(length)
        return real(fileno, length, **options)

    monkeypatch.setattr(os, "sysconf", lambda name: 10)
    monkeypatch.setattr(mmap, "mmap", noted)
    memory.touch(1 << 40)
    assert taken == [5 * mmap.PAGESIZE]


def memory_held() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * mmap.PAGESIZE
