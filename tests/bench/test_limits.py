from __future__ import annotations

from pathlib import Path

import pytest

from bench.limits import Limits
from bench.measure import Run


def runs(count, wall, stopped=False):
    return [Run(wall, wall, 0, 0, Path("out"), stopped)] * count


@pytest.mark.parametrize(("done", "last"), [(0, False), (3, False), (4, True)])
def test_without_a_limit_the_last_pair_is_the_last_that_was_asked_for(done, last):
    assert Limits(5).is_last({"plain": runs(done, 1000.0)} if done else {}, runs(done, 1000.0)) is last


@pytest.mark.parametrize(("limit", "last"), [(80.0, False), (79.0, True)])
def test_a_pair_is_the_last_if_one_more_would_go_beyond_the_limit(limit, last):
    assert Limits(5, row=limit).is_last({"plain": runs(2, 10.0), "-C": runs(2, 6.0)}, runs(2, 4.0)) is last


def test_two_pairs_are_made_however_long_they_take():
    limits = Limits(5, row=1.0)
    assert not limits.is_last({}, [])
    assert limits.is_last({"plain": runs(1, 1000.0)}, runs(1, 1.0))


def test_a_run_that_was_stopped_does_not_count_as_it_is_not_repeated():
    assert not Limits(5, row=50.0).is_last({"plain": runs(1, 120.0, stopped=True)}, runs(1, 1.0))
