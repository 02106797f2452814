"""`cowherd.tuples.NamedTuple` makes what `typing.NamedTuple` makes."""

from __future__ import annotations

import inspect
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


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((), {}), ((), {"row": 5}), ((1, 2, 3), {}), ((1,), {"column": 5}), ((1,), {"depth": 5})],
    ids=["none", "one missing", "too many", "twice", "unknown"],
)
def test_wrong_arguments_are_refused_in_the_words_of_those_of_typing(arguments, named):
    with pytest.raises(TypeError) as ours:
        Place(*arguments, **named)
    with pytest.raises(TypeError) as theirs:
        Typed(*arguments, **named)
    assert str(ours.value) == str(theirs.value).replace("Typed", "Place")


@pytest.mark.parametrize("number", [*range(1, 16), 40])
def test_a_class_has_any_number_of_fields(number):
    names = [f"field_{place}" for place in range(number)]
    made = type(NamedTuple)("Wide", (NamedTuple,), {"__module__": __name__, "__annotations__": dict.fromkeys(names, "int")})
    value = made(**{name: place for place, name in enumerate(names)})
    assert value == made(*range(number)) == tuple(range(number))
    assert [getattr(value, name) for name in names] == list(range(number))
    assert list(inspect.signature(made).parameters) == names


def test_a_value_becomes_another_or_a_mapping():
    assert Place(1, 2)._replace(row=3) == Place._make([1, 3]) == (1, 3)
    assert type(Place(1)._replace(row=3)) is type(Place._make([1, 3])) is Place
    assert Place(1)._asdict() == {"column": 1, "row": 7}
    with pytest.raises((TypeError, ValueError), match="depth"):
        Place(1)._replace(depth=2)
    with pytest.raises(TypeError, match="Expected 2 arguments, got 1"):
        Place._make([1])


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
