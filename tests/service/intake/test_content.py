"""The content digest of a raw disk that arrives is that of the stored file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.herd.records.block import BLOCK
from cowherd.herd.records.digest_rows import Content, read_content
from cowherd.image.reading import open_reading
from cowherd.service.intake.content import FlatContent


def facts(content: Content) -> tuple[int, list[int], bytes, bytes]:
    return content.size, list(content.runs), bytes(content.digests), content.content_digest


def as_arriving(*blocks: bytes) -> Content:
    content = FlatContent()
    for block in blocks:
        content.take(block)
    return content.finish()


Parts = st.lists(st.tuples(st.sampled_from([b"\0", b"a", b"b"]), st.integers(0, 3 * BLOCK)), max_size=6)


@given(Parts)
def test_it_is_that_of_the_file(tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[bytes, int]]):
    blocks = [byte * length for byte, length in parts]
    path = tmp_path_factory.mktemp("raw") / "disk"
    path.write_bytes(b"".join(blocks))
    with open_reading(path, format="raw") as reading:
        assert facts(as_arriving(*blocks)) == facts(read_content(reading))


def test_how_the_bytes_are_split_does_not_matter():
    data = b"a" * BLOCK + bytes(2 * BLOCK) + b"b" * (BLOCK + 5)
    whole = facts(as_arriving(data))
    for step in (1000, BLOCK, BLOCK + 1, 3 * BLOCK):
        assert facts(as_arriving(*(data[begin : begin + step] for begin in range(0, len(data), step)))) == whole


def test_a_sparse_and_a_stored_disk_of_the_same_bytes_agree(tmp_path: Path):
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.seek(5 * BLOCK)
        file.write(b"end")
        file.truncate(9 * BLOCK)
    with open_reading(path, format="raw") as reading:
        assert facts(as_arriving(path.read_bytes())) == facts(read_content(reading))
