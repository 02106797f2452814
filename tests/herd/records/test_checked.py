from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.herd.records import checked

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["..", "/etc", "a\0b", "\ud800", "a/b"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.parametrize(
    "text",
    ["[1]", "{", '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": -Infinity}', "[" * 100_000, b"\xff", '{"a": ' + "9" * 5000 + "}"],
)
def test_what_is_no_plain_object_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        checked.load_record(text)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\0", "\ud800", "x" * 256, None, 3, ["a"]])
def test_what_is_not_the_name_of_a_file_right_in_a_directory_is_refused(name):
    with pytest.raises(ValueError, match=r"."):
        checked.plain_name(name)


@pytest.mark.parametrize("name", ["a", "...", "a b", "\udcff", "x" * 255, "ünïcode"])
def test_every_name_that_a_file_can_have_is_one(name):
    assert checked.plain_name(name) == name


@given(ANYTHING)
def test_nothing_but_a_value_error_comes_of_anything(value):
    checks = (
        checked.dictionary,
        checked.whole,
        checked.yes_or_no,
        checked.text,
        checked.word,
        checked.path_name,
        checked.plain_name,
        lambda one: checked.row(one, 3),
        lambda one: checked.digest(one, 16),
    )
    for check in checks:
        with contextlib.suppress(ValueError):
            check(value)


@pytest.mark.parametrize("value", ["x" * 10_000, 10**4000, [0] * 10_000, {"a": "b" * 10_000}])
def test_what_is_said_of_a_value_is_short(value):
    with pytest.raises(ValueError, match=r".") as refused:
        checked.whole(value)
    assert len(str(refused.value)) < 200


@given(st.dictionaries(st.text(), st.integers()))
def test_what_was_written_is_read(record):
    assert checked.load_record(json.dumps(record)) == record
