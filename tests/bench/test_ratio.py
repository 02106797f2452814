from __future__ import annotations

import pytest

from bench.ratio import Comparison, Spread, Target, best, differences, ratios, spread


def test_a_ratio_is_taken_pair_by_pair():
    assert ratios([1.0, 6.0, 2.0], [2.0, 3.0, 8.0]) == Spread(0.25, 0.5, 2.0)


def test_a_difference_is_taken_pair_by_pair():
    assert differences([1.0, 6.0, 2.0], [2.0, 3.0, 8.0]) == Spread(-6.0, -1.0, 3.0)


def test_pairs_that_are_not_complete_are_an_error():
    with pytest.raises(ValueError, match="argument"):
        ratios([1.0], [1.0, 2.0])


def test_the_middle_of_an_even_number_lies_between_two():
    assert spread([4.0, 1.0, 2.0, 3.0]) == Spread(1.0, 2.5, 4.0)


def test_the_configuration_with_the_smallest_median_counts_even_if_another_was_once_faster():
    assert best({"plain": [1.0, 9.0, 9.0], "-W -m 16": [3.0, 3.0, 3.0]}) == "-W -m 16"


def compared(ends=9.0, durable=9.0, extra=9.0, limit=None):
    return Comparison(spread([ends]), spread([durable]), spread([extra]), None if limit is None else spread([limit]))


@pytest.mark.parametrize(
    ("target", "found", "reached"),
    [
        (Target(0.5), compared(durable=0.5), True),
        (Target(0.5), compared(durable=0.51, ends=0.1), False),
        (Target(0.5, limit=1.1), compared(durable=0.9, limit=1.1), True),
        (Target(0.5, limit=1.1), compared(durable=0.5, limit=3.0), True),
        (Target(0.5, limit=1.1), compared(durable=0.9, limit=1.2), False),
        (Target(0.5, limit=1.1), compared(durable=0.5), True),
        (Target(limit=1.1), compared(durable=0.1, limit=1.2), False),
        (Target(0.5, ends=1.2), compared(durable=0.5, ends=1.2), True),
        (Target(0.5, ends=1.2), compared(durable=0.5, ends=1.3), False),
        (Target(extra=0.04), compared(extra=0.04), True),
        (Target(extra=0.04), compared(durable=0.1, extra=0.05), False),
    ],
)
def test_a_target_is_reached_at_it_and_missed_above(target, found, reached):
    assert target.reached(found, seconds=9.0, peak=9) is reached


def test_the_middle_of_the_pairs_counts():
    found = Comparison(spread([9.0]), spread([0.1, 0.5, 0.9]), spread([9.0]))
    assert Target(0.5).reached(found, 9.0, 9) is True


@pytest.mark.parametrize(("seconds", "peak", "reached"), [(0.02, 100, True), (0.021, 100, False), (0.02, 101, False)])
def test_seconds_and_memory_of_ours_alone_may_be_bounded(seconds, peak, reached):
    assert Target(seconds=0.02, peak=100).reached(compared(), seconds, peak) is reached


def test_a_row_without_a_target_is_neither_reached_nor_missed():
    assert Target().reached(compared(), 9.0, 9) is None


def test_a_target_at_the_limit_where_that_was_not_measured_is_neither_reached_nor_missed():
    assert Target(limit=1.1).reached(compared(), 9.0, 9) is None


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (Target(0.85, limit=1.1, ends=1.2), "0.85 or 1.1 of the limit, as it ends 1.2"),
        (Target(extra=1.0, peak=100 << 20), "+1000 ms, 100 MiB"),
        (Target(seconds=0.035), "35 ms"),
        (Target(limit=1.1), "1.1 of the limit"),
        (Target(), "report"),
    ],
)
def test_a_target_is_written_for_people(target, text):
    assert str(target) == text
