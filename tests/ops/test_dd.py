"""Copying a part of a disk."""

from __future__ import annotations

import pytest

from cowherd.image.open import open_disk
from cowherd.ops.create import create
from cowherd.ops.dd import copy_part

M = 1 << 20


@pytest.mark.parametrize(("start", "end"), [(0, 8 * M), (M + 1, 6 * M - 3), (3 * M, 3 * M)])
def test_the_part_arrives_at_the_beginning(tmp_path, start, end):
    create(tmp_path / "source.qcow2", 8 * M)
    create(tmp_path / "target.qcow2", 8 * M)
    with open_disk(tmp_path / "source.qcow2", writable=True) as source:
        source.write(M, bytes(range(256)) * 20000)
        source.flush()
        with open_disk(tmp_path / "target.qcow2", writable=True) as target:
            copy_part(source, target, start, end)
            assert target.read(0, end - start) == source.read(start, end - start)
            assert target.read(end - start, 8 * M - (end - start)) == bytes(8 * M - (end - start))
