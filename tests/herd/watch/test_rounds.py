"""Which base is read next."""

from __future__ import annotations

from pathlib import Path

from cowherd.herd.watch.rounds import next_to_read
from cowherd.herd.watch.watch import Known

DAY = 86400.0
A, B, C = Path("/a"), Path("/b"), Path("/c")


def known(**read_at: float | None) -> dict[Path, Known]:
    return {Path(f"/{name}"): Known(None, read_at=when) for name, when in read_at.items()}


def test_one_that_was_never_read_comes_first():
    assert next_to_read(known(a=10.0, b=None, c=5.0), (), DAY, 100.0)[0] == B


def test_then_the_one_that_has_waited_longest_once_its_time_has_come():
    assert next_to_read(known(a=10.0, c=5.0), (), DAY, 6.0 + DAY) == (C, 5.0 + DAY)


def test_before_that_none_and_it_is_known_when():
    assert next_to_read(known(a=10.0, c=5.0), (), DAY, 4.0 + DAY) == (None, 5.0 + DAY)


def test_one_that_is_examined_anyway_is_left_out():
    assert next_to_read(known(a=10.0, b=None), (B,), DAY, 20.0) == (None, 10.0 + DAY)


def test_without_bases_nothing_is_ever_due():
    assert next_to_read({}, (), DAY, 20.0) == (None, float("inf"))
