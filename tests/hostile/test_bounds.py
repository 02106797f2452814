"""What an image claims to be costs nothing; only what it stores does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cowherd import extents as ext
from cowherd.errors import ImageFormatError
from cowherd.image.open import open_disk
from cowherd.ops.create import create
from tests.hostile.commands import Runner
from tests.hostile.corpus import Case, corpus
from tests.images import MIB, Features

EIB = 1 << 60
COSTLY = [case for case in corpus() if case.category == "costly"]


@pytest.mark.parametrize("case", COSTLY, ids=str)
def test_a_check_of_what_claims_to_be_much_work_is_little(case: Case, tmp_path: Path):
    folder = tmp_path / "herd"
    folder.mkdir()
    image = case.write(folder / "image")
    with Runner() as runner:
        found = runner.words("cowherd-img", ["check", "-f", "qcow2", str(image)], folder)
    assert found.problem is None
    assert found.code == 2  # corrupt, all of them


def test_a_disk_of_an_exabyte_is_walked_by_what_it_stores(tmp_path: Path):
    path = tmp_path / "image"
    create(path, EIB, options=Features(2 * MIB).chosen)
    with open_disk(path, format="qcow2", writable=True) as disk:
        disk.write(EIB // 2 + 4096, b"in the midst")
        disk.write(EIB - 512, b"e" * 512)
        batches = list(disk.extents())
        found = ext.merge(np.concatenate(batches))
    assert len(batches) < 10
    assert int(found["length"].sum()) == EIB
    assert [int(start) for start in ext.of_kind(found, ext.DATA)["start"]] == [EIB // 2, EIB - 2 * MIB]


def test_a_raw_file_of_terabytes_is_walked_by_what_it_stores(tmp_path: Path):
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(8 << 40)
        file.seek(5 << 40)
        file.write(b"data" * 1024)
    with open_disk(path, format="raw") as disk:
        batches = list(disk.extents())
        found = ext.merge(np.concatenate(batches))
    assert len(batches) < 10
    assert int(found["length"].sum()) == 8 << 40
    assert [int(start) for start in ext.of_kind(found, ext.DATA)["start"]] == [5 << 40]


def test_tables_in_the_holes_of_a_file_hold_nothing_until_they_are_written(tmp_path: Path):
    path = tmp_path / "image"
    create(path, 8 << 30)
    with open_disk(path, format="qcow2", writable=True) as disk:
        for index in range(16):
            disk.write(index << 29, b"first")
            disk.discard(index << 29, 65536)
    with open_disk(path, format="qcow2", writable=True) as disk:
        layer = disk.layers[0]
        for index in range(16):  # every table is zeros by now, and made a hole
            layer.file.punch_hole(layer._tables.l2_offset(index), 65536)
        assert (np.concatenate(list(disk.extents()))["kind"] == ext.BACKING).all()
        disk.write(3 << 29, b"again")
        written = ext.of_kind(np.concatenate(list(disk.extents())), ext.DATA)
        assert [int(start) for start in written["start"]] == [3 << 29]
        assert disk.read(3 << 29, 5) == b"again"


def test_an_l1_table_that_names_one_l2_table_again_and_again_is_refused(tmp_path: Path):
    case = next(case for case in COSTLY if "full of one L2" in case.name)
    with pytest.raises(ImageFormatError, match="524287 of its 524288 L1 entries"):
        open_disk(case.write(tmp_path / "image"), format="qcow2")
