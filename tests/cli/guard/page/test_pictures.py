from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.cli.guard.look.page.pictures import CELL, CELLS, axis, crowd, strip

GIB = 1 << 30


@given(st.integers(1, 1 << 45), st.data())
def test_every_range_is_drawn_where_it_is_and_never_wider_than_needed(size, data):
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    first, width = map(int, re.findall(r'd="M(\d+) 0h(\d+)', strip(size, [("bad", "whole", [(start, end)])], ""))[0])
    assert 0 <= first < first + width <= CELLS
    assert first * size <= start * CELLS
    assert end * CELLS <= (first + width) * size
    assert width <= (end - start) * CELLS // size + 2


@pytest.mark.parametrize(
    ("size", "marks"),
    [(32 << 20, ["0", "4 MiB", "8 MiB"]), (20 * GIB, ["0", "4 GiB", "8 GiB"]), (1, ["0", "1 B"]), (512, ["0", "64 B", "128 B"])],
)
def test_an_axis_has_marks_at_multiples_of_a_power_of_two(size, marks):
    found = re.findall(r">([^<]+)</text>", axis(size))
    assert found[: len(marks)] == marks
    assert 2 <= len(found) <= 9


def test_each_image_has_one_dot_and_no_two_have_the_same_place():
    states = ["torn"] * 3 + ["synchronised"] * 700 + ["ok"] * 41
    picture = crowd(states, 1)
    places = re.findall(r"M(\d+) (\d+)m", picture)
    assert len(set(places)) == len(places) == len(states)
    assert all(int(x) % CELL == int(y) % CELL == 0 for x, y in places)
    assert 'aria-label="3 torn, 700 synchronised, 41 ok"' in picture


def test_the_dots_of_bad_and_good_states_differ_in_shape():
    shapes = {
        re.sub(r"M\d+ \d+", "", re.findall(r'd="([^"]+)"', crowd([state], 0))[0])
        for state in ("torn", "synchronised", "unsealed", "ok")
    }
    assert len(shapes) == 4
