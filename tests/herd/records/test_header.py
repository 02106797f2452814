"""What the beginning of a file says of it: images that begin alike share what is known, and each still speaks for itself."""

from __future__ import annotations

import struct

import pytest

from bench.herds import header, write_image
from cowherd.formats.reference import BackingReference
from cowherd.herd.records import header as heads
from cowherd.herd.records.header import Head, read_image

BASE = BackingReference("base.qcow2", "qcow2")
_UNKNOWN_EXTENSION = 0x12345678


@pytest.fixture(autouse=True)
def _nothing_known():
    heads._head_in.cache_clear()


def _long(backing: str) -> bytes:
    """A header whose backing file name lies behind what is read first."""
    return header(backing, extensions=struct.pack(">II", _UNKNOWN_EXTENSION, 8000) + bytes(8000))


def test_overlays_that_begin_alike_are_understood_once(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write_image(tmp_path / name, header("base.qcow2"))
    first = read_image(f"{tmp_path}/a")
    monkeypatch.setattr(heads, "parse_header", None)
    second = read_image(f"{tmp_path}/b")
    assert first.content == second.content == Head(1 << 30, BASE)
    assert first.identity != second.identity


def test_a_header_that_is_longer_than_what_is_read_first_is_read_to_its_end(tmp_path):
    for name in ("one.qcow2", "two.qcow2"):
        write_image(tmp_path / name, _long(name))
    found = [read_image(f"{tmp_path}/{name}").content for name in ("one.qcow2", "two.qcow2", "one.qcow2")]
    assert [head.backing.name for head in found if isinstance(head, Head) and head.backing] == [
        "one.qcow2",
        "two.qcow2",
        "one.qcow2",
    ]


def test_files_that_are_wrong_alike_are_each_named_in_their_problem(tmp_path):
    for name in ("a", "b"):
        write_image(tmp_path / name, header().replace(b"QFI\xfb\0\0\0\3", b"QFI\xfb\0\0\0\7"))
        content = read_image(f"{tmp_path}/{name}").content
        assert isinstance(content, Head)
        assert content.size is None
        assert f"{tmp_path}/{name}" in str(content.problem)


def test_a_file_that_ends_before_its_header_does_is_a_damaged_image(tmp_path):
    (tmp_path / "short").write_bytes(header("base.qcow2")[:100])
    content = read_image(f"{tmp_path}/short").content
    assert isinstance(content, Head)
    assert content.problem
