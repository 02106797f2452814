from __future__ import annotations

import pytest

from bench.ratio import Spread, Target, best, differences, ratios, spread


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


def test_a_target_is_reached_at_it_and_missed_above():
    extra = spread([0.0])
    assert Target(0.5).reached(spread([0.1, 0.5, 0.9]), extra) is True
    assert Target(0.5).reached(spread([0.51]), extra) is False


def test_a_target_in_seconds_looks_at_the_difference():
    assert Target(extra=0.04).reached(spread([9.0]), spread([0.04])) is True
    assert Target(extra=0.04).reached(spread([0.1]), spread([0.05])) is False


def test_a_row_without_a_target_is_neither_reached_nor_missed():
    assert Target().reached(spread([9.0]), spread([9.0])) is None
