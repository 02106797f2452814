"""A herd to be watched."""

from __future__ import annotations

from pathlib import Path

import pytest

import cowherd
from tests.herd.qemu_herd import make_base, make_overlay, noise, write

BLOCKS = 48


@pytest.fixture
def base(tmp_path: Path, qemu_img, qemu_io) -> Path:
    """A sealed base of 3 MiB under three overlays: one has written a little, one nothing, and one has a copy of everything."""
    herd = tmp_path / "herd"
    herd.mkdir()
    base = make_base(herd / "base.qcow2", noise(BLOCKS * 65536))
    cowherd.seal(base)
    for name in ("torn", "fresh", "shielded"):
        cowherd.clone(base, herd / f"{name}.qcow2")
    write(herd / "torn.qcow2", "write -P 7 0 64k")
    write(herd / "shielded.qcow2", f"write -P 9 0 {BLOCKS * 64}k")
    return base


@pytest.fixture
def raw(tmp_path: Path, qemu_img) -> Path:
    """A sealed raw base of 3 MiB, under one overlay."""
    herd = tmp_path / "raws"
    herd.mkdir()
    base = herd / "base.raw"
    base.write_bytes(noise(BLOCKS * 65536))
    make_overlay(herd / "web.qcow2", base, base_format="raw")
    cowherd.seal(base, bind=True)
    return base
