"""Images as families."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cowherd.service.records.image import Image
from cowherd.service.web.page.trees import DEEPEST_DRAWN, families_of


def images(**bases: str | None) -> list[Image]:
    """Images with their bases, each younger than the one before."""
    first = datetime(2026, 1, 1, tzinfo=UTC)
    return [Image(id=name, base=base, created_at=first + timedelta(minutes=at)) for at, (name, base) in enumerate(bases.items())]


def drawn(family) -> list[str]:
    return [f"{row.image.id}{row.depth}" for row in family]


def test_overlays_follow_their_base_the_eldest_first():
    families = families_of(images(a=None, b="a", c="a", d="b", e=None))
    assert [drawn(family) for family in families] == [["a0", "b1", "d2", "c1"], ["e0"]]
    assert [(row.open_lines, row.overlays) for row in families[0]] == [
        *(((), 2), ((True,), 1), ((True, False), 0), ((False,), 0)),
    ]


def test_families_stand_in_the_order_of_their_first_image():
    made = images(a=None, b=None, c="a")
    assert [drawn(family) for family in families_of(list(reversed(made)))] == [["a0", "c1"], ["b0"]]


def test_a_base_that_is_not_there_makes_a_root():
    assert [drawn(family) for family in families_of(images(a="gone"))] == [["a0"]]


def test_below_some_depth_no_lines_are_drawn():
    chain = {f"{number}": f"{number - 1}" if number else None for number in range(DEEPEST_DRAWN + 3)}
    (family,) = families_of(images(**chain))
    assert [len(row.open_lines) for row in family] == [*range(DEEPEST_DRAWN + 1), 0, 0]


@given(st.lists(st.integers(0, 12), max_size=12))
def test_each_image_is_drawn_once_whatever_is_said_of_its_base(bases):
    """Statements may contradict each other, and go in circles."""
    made = images(**{f"{number}": f"{base}" for number, base in enumerate(bases)})
    rows = [row.image.id for family in families_of(made) for row in family]
    assert sorted(rows) == sorted(image.id for image in made)
