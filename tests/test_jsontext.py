"""JSON is read and written as Python's own module does it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.jsontext import Reader, read_json, write_json

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(VALUES, st.booleans())
def test_values_are_written_as_json_writes_them(value, sort_keys):
    assert write_json(value, sort_keys=sort_keys) == json.dumps(value, sort_keys=sort_keys, separators=(",", ":"))
    assert write_json(value, between=(", ", ": ")) == json.dumps(value)


@given(VALUES, st.sampled_from([None, 1]), st.text(" \t\r\n", max_size=3))
def test_what_json_wrote_is_read(value, indent, white):
    text = white + json.dumps(value, indent=indent) + white
    assert read_json(text) == value
    assert read_json(text.encode()) == value


def outcome(read, text):
    """What is read, or what is said of it."""
    try:
        return read(text)
    except ValueError as error:
        return type(error), str(error)


@given(st.text() | st.text('[]{}",:1e-. \\u00nultrefase'))
def test_other_text_is_read_or_refused_as_by_json(text):
    text = text.lstrip("\ufeff")  # which json has words of its own for
    expected, read = outcome(json.loads, text), outcome(read_json, text)
    assert read == expected or (math.isnan(read) and math.isnan(expected))


def test_a_reader_can_refuse_what_json_accepts():
    def refuse(*_):
        raise ValueError("not so")

    for text in ('{"a": 1}', "NaN"):
        with pytest.raises(ValueError, match=r"^not so$"):
            Reader(refuse, refuse).read(text)


def test_what_json_cannot_hold_is_refused():
    endless: list = []
    endless.append(endless)
    with pytest.raises(ValueError, match="Circular"):
        write_json(endless)
    with pytest.raises(TypeError, match=r"^Object of type set is not JSON serializable$"):
        write_json({1})
