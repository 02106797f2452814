"""Every image of the corpus is refused, at little cost, and nothing outside it is opened."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cowherd
from cowherd.errors import CowherdError
from tests.hostile.corpus import Case, corpus, seed

CASES = corpus()
ALLOWED = ("bitmaps", "snapshots")
"""Features let through here, so that what is wrong with them is what is refused."""
MOST_SECONDS, MOST_BYTES = 10, 256 << 20

_watched: list[list[str]] = []


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and (event == "open" or event.startswith(("socket.", "subprocess.", "os.exec", "os.posix_spawn"))):
        _watched[-1].append(os.fsdecode(arguments[0]) if event == "open" else event)


@contextlib.contextmanager
def watched() -> Iterator[list[str]]:
    """Gives the names of files opened inside, and of anything to do with sockets and other programs."""
    if not hasattr(sys, "_cowherd_listens"):
        sys.addaudithook(_listen)
        sys._cowherd_listens = True  # type: ignore[attr-defined]
    _watched.append([])
    try:
        yield _watched[-1]
    finally:
        _watched.pop()


@contextlib.contextmanager
def frugal() -> Iterator[None]:
    """Fails if what is done inside costs more than an image from a stranger may."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    yield
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MOST_SECONDS
    assert (after.ru_maxrss - before.ru_maxrss) << 10 < MOST_BYTES


def test_there_are_more_than_a_hundred_images_with_names_of_their_own():
    assert len({str(case) for case in CASES}) == len(CASES) > 100


def test_the_sound_image_that_they_are_made_from_is_safe(tmp_path):
    found = cowherd.inspect(seed().write(tmp_path / "seed.qcow2"), format="qcow2")
    assert found.refused == ()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_refused_and_nothing_else_is_opened(case: Case, tmp_path: Path):
    path = case.write(tmp_path / "image")
    cowherd.inspect(seed().write(tmp_path / "warm-up"))  # modules are loaded by now
    with frugal(), watched() as opened:
        found = cowherd.inspect(path, format=case.format, allow=ALLOWED)
    assert not found.safe
    assert set(opened) <= {os.fspath(path)}
    assert all(check.detail for check in found.refused)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_other_commands_say_an_error_or_cope(case: Case, tmp_path: Path):
    path = case.write(tmp_path / "image")
    with frugal():
        with contextlib.suppress(CowherdError):
            cowherd.image_info(path, format=case.format)
        if case.format == "qcow2" and case.category != "costly":  # a check may cost what the file's length allows
            with contextlib.suppress(CowherdError):
                cowherd.check(path, format="qcow2")
        with contextlib.suppress(CowherdError), cowherd.open(path, format=case.format, backing=False) as disk:
            with contextlib.suppress(CowherdError):
                disk.read(0, min(disk.size, 4096))
            with contextlib.suppress(CowherdError):
                disk.read(max(0, disk.size - 4096), min(disk.size, 4096))
