"""Which bytes of a content a request asks for."""

from __future__ import annotations

import pytest

from cowherd.service.web.errors import BadRequest, RangeNotSatisfiable
from cowherd.service.web.images.ranges import wanted_range

NONE = frozenset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes=0-4", (0, 5)),
        ("bytes=5-5", (5, 6)),
        ("bytes=4-", (4, 10)),
        ("bytes=-2", (8, 10)),
        ("bytes=-20", (0, 10)),
        ("bytes=3-100", (3, 10)),
        (" BYTES = 3 - 4 ", (3, 5)),
    ],
)
def test_a_range_names_its_first_and_last_byte(text, expected):
    assert wanted_range({"range": text}, 10, NONE) == expected


@pytest.mark.parametrize(
    "text", ["bytes=10-", "bytes=5-4", "bytes=-0", "bytes=-", "bits=1-2", "bytes=a-b", "1-2", "", "bytes=" + "9" * 5000 + "-"]
)
def test_a_range_without_a_byte_of_the_content_is_refused_with_its_size(text):
    with pytest.raises(RangeNotSatisfiable) as caught:
        wanted_range({"range": text}, 10, NONE)
    assert caught.value.headers == {"Content-Range": "bytes */10"}


def test_several_ranges_are_refused():
    with pytest.raises(BadRequest):
        wanted_range({"range": "bytes=0-1,3-4"}, 10, NONE)


def test_without_a_range_all_is_meant():
    assert wanted_range({}, 10, NONE) is None


def test_if_range_with_another_validator_means_all():
    headers = {"range": "bytes=1-2", "if-range": '"old"'}
    assert wanted_range(headers, 10, frozenset({'"new"'})) is None
    assert wanted_range(headers, 10, frozenset({'"old"'})) == (1, 3)


@pytest.mark.parametrize("total", ["*", "10"])
def test_content_range_is_taken_as_glance_takes_it(total):
    assert wanted_range({"content-range": f"bytes 1-4/{total}"}, 10, NONE) == (1, 5)


@pytest.mark.parametrize("text", ["bytes 1-10/*", "bytes 4-1/*", "bytes 10-10/*", "bytes=1-2", "bytes 1-/10"])
def test_a_content_range_outside_of_the_content_is_refused(text):
    with pytest.raises(RangeNotSatisfiable):
        wanted_range({"content-range": text}, 10, NONE)
