from __future__ import annotations

from pathlib import Path

import pytest

from bench.measure import Run
from bench.peers import contenders, winner


def runs(*walls, stopped=False):
    return [Run(wall, wall, 0, 0, Path("out"), stopped) for wall in walls]


def test_every_configuration_that_came_to_its_end_runs_in_the_second_pair():
    assert contenders({"plain": runs(1.0), "-C": runs(9.0)}) == {"plain", "-C"}


def test_one_that_is_clearly_slower_after_two_pairs_does_not_run_again():
    assert contenders({"plain": runs(1.0, 1.0), "-W": runs(1.3, 1.3), "-C": runs(1.31, 1.31)}) == {"plain", "-W"}


def test_one_slow_run_after_many_quick_ones_drops_nothing():
    assert contenders({"plain": runs(1.0, 1.0, 1.0), "-W": runs(1.0, 1.0, 9.0)}) == {"plain", "-W"}


def test_one_that_was_dropped_stays_out():
    assert contenders({"plain": runs(1.0, 1.0, 7.0, 7.0, 7.0), "-C": runs(2.0, 2.0)}) == {"plain"}


def test_one_that_was_stopped_has_lost_at_once():
    theirs = {"plain": runs(120.0, stopped=True), "-W": runs(119.0)}
    assert (contenders(theirs), winner(theirs)) == ({"-W"}, "-W")


def test_where_all_were_stopped_none_runs_again():
    theirs = {"plain": runs(120.0, stopped=True)}
    assert (contenders(theirs), winner(theirs)) == (set(), "plain")


@pytest.mark.parametrize("later", [(1.0, 1.0), (3.0, 3.0)])
def test_only_one_that_ran_in_every_pair_can_count(later):
    assert winner({"plain": runs(1.0, 1.0, 1.0, *later), "-C": runs(1.5, 1.5)}) == "plain"
