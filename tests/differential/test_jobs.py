"""What the stateful tests found in whole jobs, one sequence a test, so that it stays found."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowherd.image.open import open_disk
from cowherd.ops.rebase.rebase import rebase
from tests.images import KIB, Features, assert_sound, create_with_cowherd


@pytest.mark.qemu
@pytest.mark.parametrize("version", [2, 3])
def test_an_image_that_gets_its_first_base_keeps_its_zeros(version: int, tmp_path: Path):
    # Version 2 has no zero clusters, so the zeros have to be written.
    (tmp_path / "base.raw").write_bytes(b"b" * 100 * KIB)
    image = create_with_cowherd(tmp_path / "image.qcow2", Features(version=version), 300 * KIB)
    rebase(image, "base.raw", format="qcow2", backing_format="raw")
    with open_disk(image) as disk:
        assert disk.read(0, 300 * KIB) == bytes(300 * KIB)
    assert_sound(image)
