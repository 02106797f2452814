"""Inspection of data as it streams in."""

from __future__ import annotations

import io

import pytest

import cowherd
from cowherd.errors import InvalidRequest
from tests.hostile.corpus import CLUSTER, corpus, seed


class Counted(io.BytesIO):
    """A stream that can't seek and counts what was read."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data

    def seekable(self) -> bool:
        return False

    def seek(self, *arguments: object) -> int:
        raise io.UnsupportedOperation


@pytest.mark.parametrize("step", [1, 7, 4096, 1 << 20])
def test_the_size_of_the_pieces_changes_nothing(step: int):
    data = bytes(seed().data[: 2 * CLUSTER])
    inspector = cowherd.Inspector(format="qcow2")
    for start in range(0, len(data), step):
        inspector.feed(data[start : start + step])
    assert inspector.finish() == cowherd.inspect(io.BytesIO(data), format="qcow2")


def test_a_bad_header_is_refused_as_soon_as_it_is_there():
    image = seed()
    image.backing(b"/etc/passwd")
    stream = Counted(bytes(image.data) + bytes(8 << 20))
    assert [check.name for check in cowherd.inspect(stream).refused] == ["backing-file"]
    assert stream.taken <= CLUSTER


def test_a_table_past_the_end_is_refused_at_the_end_or_at_once_where_the_length_is_told():
    image = seed()
    image.field("l1_table_offset", 1 << 40)
    late, early = Counted(image.data), Counted(image.data)
    assert [check.name for check in cowherd.inspect(late).refused] == ["inside-the-file"]
    assert [check.name for check in cowherd.inspect(early, length=len(image.data)).refused] == ["inside-the-file"]
    assert late.taken == len(image.data)
    assert early.taken <= CLUSTER


def test_a_stream_of_another_length_than_told_is_refused():
    data = bytes(seed().data)
    found = cowherd.inspect(io.BytesIO(data), length=len(data) + 1)
    assert [check.name for check in found.refused] == ["length"]


def test_what_a_stream_can_not_show_is_said():
    found = cowherd.inspect(Counted(seed().data))
    assert (found.safe, found.complete) == (True, False)
    assert [check.name for check in found.checks if check.outcome.value == "unknown"] == ["tables"]


def test_raw_data_is_let_through_up_to_the_largest_size():
    assert cowherd.inspect(io.BytesIO(bytes(1000)), format="raw").safe
    assert not cowherd.inspect(io.BytesIO(bytes(1000)), format="raw", max_size=999).safe


@pytest.mark.parametrize("case", [case for case in corpus() if case.category != "costly"], ids=str)
def test_a_stream_is_never_refused_for_what_the_stored_file_is_not(case, tmp_path):
    path = case.write(tmp_path / "image")
    with path.open("rb") as stream:
        streamed = cowherd.inspect(stream, format=case.format)
    stored = cowherd.inspect(path, format=case.format)
    assert {check.name for check in streamed.refused} <= {check.name for check in stored.refused}


@pytest.mark.parametrize("wrong", [{"policy": "kind"}, {"allow": ["everything"]}])
def test_an_unknown_policy_or_feature_is_wrong_usage(wrong):
    with pytest.raises(InvalidRequest):
        cowherd.inspect(io.BytesIO(b""), **wrong)
