"""A rebase asks the seals of both bases what it need not read."""

from __future__ import annotations

import os
import shutil

import pytest

import cowherd
from cowherd.herd.records.sealplace import seal_path
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
CHANGED = 192 << 10
CONTENT = noise(4 * MIB)


@pytest.fixture
def herd(tmp_path):
    """Three sealed bases: `old`, `equal` with the same content, and `new` with 192 KiB of other; `top` is an overlay of `old`."""
    for name in ("old", "equal"):
        make_base(tmp_path / name, CONTENT)
    make_base(tmp_path / "new", CONTENT[:MIB] + noise(CHANGED, 7) + CONTENT[MIB + CHANGED :])
    for name in ("old", "equal", "new"):
        cowherd.seal(tmp_path / name)
    make_overlay(tmp_path / "top", "old")
    write(tmp_path / "top", "write -P 3 64k 10k")
    return tmp_path


def rebase(herd, onto: str, **options) -> int:
    """Rebases the overlay, which must show the same afterwards; returns how many bytes were read from either side."""
    before = content(herd / "top")
    done = cowherd.rebase(herd / "top", onto, backing_format="qcow2", **options)
    assert content(herd / "top") == before
    assert cowherd.image_info(herd / "top").backing_name == onto
    assert {row.status.value for row in cowherd.verify([herd / "top"])} <= {"ok", "touched", "unsealed"}
    return done.bytes_compared


def test_onto_a_sealed_base_of_equal_content_nothing_is_read(herd):
    assert rebase(herd, "equal") == 0


def test_onto_a_sealed_base_of_other_content_only_blocks_that_differ_are_read(herd):
    assert rebase(herd, "new") == CHANGED


@pytest.mark.parametrize("touched", ["old", "equal"])
def test_a_seal_of_a_file_that_was_touched_since_proves_nothing(herd, touched):
    os.utime(herd / touched, ns=(1, 1))
    assert rebase(herd, "equal") > 3 * MIB


def test_a_base_that_was_written_to_behind_its_seal_is_found_to_differ(herd):
    write(herd / "equal", "write -P 9 2M 64k")
    assert rebase(herd, "equal") > 3 * MIB
    assert content(herd / "top")[2 * MIB : 2 * MIB + 4] == CONTENT[2 * MIB : 2 * MIB + 4]


@pytest.mark.parametrize("damaged", ["old", "new"])
def test_a_damaged_seal_proves_nothing(herd, damaged):
    seal = seal_path(herd / damaged)
    os.chmod(seal, 0o644)
    with seal.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(bytes([seal.read_bytes()[-1] ^ 1]))
    assert rebase(herd, "new") > 3 * MIB


def test_with_force_share_everything_is_read(herd):
    assert rebase(herd, "equal", force_share=True) > 3 * MIB


def test_a_seal_speaks_for_the_format_that_was_sealed(herd):
    shutil.copy(herd / "old", herd / "as-raw")
    shutil.copy(herd / "as-raw", herd / "same-as-raw")
    for name in ("as-raw", "same-as-raw"):
        cowherd.seal(herd / name)  # as qcow2
    cowherd.create(herd / "over-raw", backing="as-raw", backing_format="raw", break_dependents=True)
    done = cowherd.rebase(herd / "over-raw", "same-as-raw", backing_format="raw", break_dependents=True)
    assert done.bytes_compared > 3 * MIB
