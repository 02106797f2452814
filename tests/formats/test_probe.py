"""Guessing formats, beside what QEMU guesses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cowherd.formats.probe import probe
from cowherd.storage.hostfile import HostFile
from tests.qemu import Tool


def probed(path: Path) -> str:
    with HostFile.open(path, lock=None) as file:
        return probe(file)


@pytest.mark.parametrize("format", ["qcow2", "qcow", "qed", "vmdk", "vdi", "vhdx", "vpc", "parallels", "raw"])
def test_what_qemu_makes_is_recognised(tmp_path: Path, qemu_img: Tool, format: str):
    path = tmp_path / "image"
    done = qemu_img.run("create", "-q", "-f", format, path, "1M")
    if done.returncode:
        pytest.skip(f"this QEMU has no {format}")
    found = json.loads(qemu_img("info", "--output=json", path))["format"]
    assert probed(path) == found == format


@pytest.mark.parametrize(
    "content",
    [b"", b"Q", b"QFI", b"QFI\xfa" + bytes(600), bytes(512), b"\x7fELF" + bytes(60), b"KDM", b"vhdxfil" + bytes(9)],
    ids=repr,
)
def test_everything_else_is_raw(tmp_path: Path, content: bytes):
    path = tmp_path / "image"
    path.write_bytes(content)
    assert probed(path) == "raw"


def test_a_damaged_header_is_still_recognised(tmp_path: Path):
    """To say what is wrong with an image is better than to take it for a raw disk."""
    path = tmp_path / "image"
    path.write_bytes(b"QFI\xfb\0\0\0\x63" + bytes(100))
    assert probed(path) == "qcow2"
