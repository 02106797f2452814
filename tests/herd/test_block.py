"""A seal or binding of another size of blocks is refused by name, and never taken for one of ours."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.herd.qemu_herd import make_base, noise

pytestmark = pytest.mark.qemu

OURS, OTHER = 65536, 131072


def cowherd(block, *words):
    code = (
        f"import sys; from cowherd.herd.records import block; block.BLOCK = {block}\n"
        "from cowherd.cli.guard.main import main; sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(("sealed_with", "read_with"), [(OURS, OTHER), (OTHER, OURS)])
@pytest.mark.parametrize("full", [[], ["--full"]])
def test_a_seal_of_another_size_of_blocks_is_not_fine(tmp_path, sealed_with, read_with, full):
    base = make_base(tmp_path / "base", noise(3 * OTHER))
    assert cowherd(sealed_with, "seal", base).returncode == 0
    assert cowherd(sealed_with, "verify", *full, base).returncode == 0
    refused = cowherd(read_with, "verify", *full, base)
    assert refused.returncode not in (0, 120)
    assert f"blocks of {sealed_with} bytes" in refused.stdout + refused.stderr


@pytest.mark.parametrize(("made_with", "read_with"), [(OURS, OTHER), (OTHER, OURS)])
def test_a_binding_of_another_size_of_blocks_is_not_fine(tmp_path, made_with, read_with):
    base = make_base(tmp_path / "base", noise(3 * OTHER))
    assert cowherd(made_with, "clone", base, tmp_path / "overlay").returncode == 0
    refused = cowherd(read_with, "clone", tmp_path / "overlay", tmp_path / "next")
    assert refused.returncode != 0
    assert f"blocks of {made_with} bytes" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
