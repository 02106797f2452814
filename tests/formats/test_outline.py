"""The outline of a raw image, beside the arrays of `Raw.extents` on the same file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd.formats.outline import RawOutline
from cowherd.formats.raw import Raw
from cowherd.kinds import ENDLESS
from cowherd.storage.hostfile import HostFile
from tests.images import KIB, examples

BLOCK = 4 * KIB


def sparse(path: Path, length: int, blocks: set[int]) -> Path:
    with path.open("wb") as file:
        for block in blocks:
            file.seek(block * BLOCK)
            file.write(b"x" * BLOCK)
        file.truncate(length)
    return path


@settings(max_examples=examples(30), deadline=None)
@given(length=st.integers(0, 20 * BLOCK), blocks=st.sets(st.integers(0, 19)), data=st.data())
def test_any_sparse_file_reads_as_its_extents_do(tmp_path_factory: pytest.TempPathFactory, length, blocks, data: st.DataObject):
    path = sparse(tmp_path_factory.mktemp("raw") / "image", length, blocks)
    with Raw(HostFile.open(path)) as image:
        plain = RawOutline(HostFile.open(path))
        assert plain.size == image.size
        if image.size:
            start = data.draw(st.integers(0, image.size - 1))
            end = data.draw(st.integers(start + 1, image.size))
            assert plain.rows(start, end) == image.extents(start, end - start).tolist()
            assert plain.empty_until(start) == image.empty_until(start)
        plain.close()


def test_a_raw_image_has_neither_tables_nor_a_backing_file(tmp_path: Path):
    plain = RawOutline(HostFile.open(sparse(tmp_path / "image", 3 * BLOCK, set())))
    assert (plain.table_bytes, plain.backing, plain.empty_until(0)) == (0, None, ENDLESS)
