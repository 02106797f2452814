"""JSON as QEMU prints it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from cowherd.cli.img.jsonout import dumps

VALUES = st.recursive(
    st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@given(VALUES)
def test_it_is_json_and_ascii(value):
    text = dumps(value)
    assert text.isascii()
    assert json.loads(text) == value


def test_empty_lists_and_objects_take_two_lines():
    assert dumps({"a": [], "b": {}}) == '{\n    "a": [\n    ],\n    "b": {\n    }\n}'


def test_what_is_no_character_is_replaced():
    assert dumps("\udcff\x7f\N{GRINNING FACE}\n") == '"\\uFFFD\\u007F\\uD83D\\uDE00\\n"'
