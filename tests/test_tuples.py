"""`cowherd.tuples.NamedTuple` makes what `typing.NamedTuple` makes."""

from __future__ import annotations

import pickle
import typing

import pytest

from cowherd.tuples import NamedTuple


class Place(NamedTuple):
    """A point."""

    column: int
    row: int = 7

    @property
    def both(self) -> int:
        return self.column * self.row


class Typed(typing.NamedTuple):
    """A point."""

    column: int
    row: int = 7

    @property
    def both(self) -> int:
        return self.column * self.row


def test_fields_are_given_by_place_by_name_or_by_default():
    assert [Place(1, 2), Place(row=2, column=1), Place(1)] == [(1, 2), (1, 2), (1, 7)]


@pytest.mark.parametrize("arguments", [(), (1, 2, 3)])
def test_too_few_and_too_many_are_refused(arguments):
    with pytest.raises(TypeError):
        Place(*arguments)


@pytest.mark.parametrize("name", ["__doc__", "__slots__", "__match_args__", "_fields", "_field_defaults"])
def test_a_class_tells_of_itself_what_those_of_typing_do(name):
    assert getattr(Place, name) == getattr(Typed, name)


def test_a_class_is_called_as_it_was_defined():
    assert (Place.__module__, Place.__name__, Place.__qualname__) == (__name__, "Place", "Place")
    assert repr(Place(1)) == "Place(column=1, row=7)"


def test_methods_of_the_body_are_there():
    assert Place(3).both == Typed(3).both == 21


def test_a_value_takes_no_further_attributes():
    with pytest.raises(AttributeError):
        Place(1).depth = 2


def test_a_value_survives_pickling():
    found = pickle.loads(pickle.dumps(Place(1, 2)))
    assert found == (1, 2)
    assert type(found) is Place
