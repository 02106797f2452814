"""Guessing formats, beside what QEMU guesses."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cowherd
from cowherd.errors import UnsupportedFeature
from cowherd.formats.probe import probe
from cowherd.storage.hostfile import HostFile
from tests.images import examples
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


CLOOP = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"


def cloop() -> bytes:
    """A compressed loop image of no blocks, in blocks of 64 KiB."""
    return CLOOP.ljust(128, b"\0") + struct.pack(">IIQ", 65536, 0, 144)


def dmg(padding: int = 0) -> bytes:
    """A dmg image of one sector that is not compressed, and so many bytes of it more; made as Apple describes the trailer."""
    chunk = struct.pack(">IIQQQQ", 1, 0, 0, 1, 0, 512)
    block = (b"mish" + struct.pack(">IQQQ", 1, 0, 1, 0)).ljust(204, b"\0") + chunk
    data = bytes(512 + padding)
    resources = (
        struct.pack(">IIII", 256, 256 + 4 + len(block), 4 + len(block), 0).ljust(256, b"\0")
        + struct.pack(">I", len(block))
        + block
    )
    trailer = b"koly" + struct.pack(">IIIQQQQQ", 4, 512, 1, 0, 0, len(data), len(data), len(resources))
    return data + resources + trailer.ljust(512, b"\0")


@pytest.mark.parametrize("name", ["image", "image.dmg"])
@pytest.mark.parametrize("padding", [0, 1, 300, 511])
def test_a_dmg_image_is_known_by_its_end_whatever_its_name(tmp_path: Path, name: str, padding: int):
    path = tmp_path / name
    path.write_bytes(dmg(padding))
    assert probed(path) == "dmg"


@pytest.mark.parametrize(
    "descriptor",
    [
        b"version=1\nCID=fffffffe\n",
        b"#x\n# Disk DescriptorFile\nversion=2\r\n",
        b"#\n   \n \r\nversion=3\n",
        b"#" + b"-" * 400 + b"\nversion=1\n",
        b"# Disk DescriptorFile\nCID=1\n",
    ],
    ids=repr,
)
def test_a_vmdk_descriptor_is_known_behind_comments_and_blank_lines(tmp_path: Path, descriptor: bytes):
    (tmp_path / "image").write_bytes(descriptor)
    assert probed(tmp_path / "image") == "vmdk"


@pytest.mark.parametrize(
    ("name", "data", "format"),
    [
        ("image", cloop(), "cloop"),
        ("image.dmg", dmg(), "dmg"),
        ("image.dmg", b"no such thing", "dmg"),
        ("image", dmg(), "dmg"),
        ("image", b"#\nversion=1\nCID=0\n", "vmdk"),
        ("image", b"Bochs Virtual HD Image".ljust(600, b"\0"), "bochs"),
    ],
)
def test_no_command_takes_for_raw_what_has_a_name(tmp_path: Path, name: str, data: bytes, format: str):
    path = tmp_path / name
    path.write_bytes(data)
    for job in (
        cowherd.image_info,
        cowherd.open,
        cowherd.measure,
        lambda path: cowherd.convert(path, tmp_path / "out", target_format="raw"),
    ):
        with pytest.raises(UnsupportedFeature, match=format):
            job(path)


@pytest.mark.parametrize(
    "data", [b"", b"#", CLOOP[:30], b"version=4\n", b"\nversion=1\n", b"version=1", b"LUKS\xba\xbe\0\x02" + bytes(600)], ids=repr
)
def test_what_qemu_takes_for_raw_without_any_doubt_is_raw(tmp_path: Path, qemu_img: Tool, data: bytes):
    (tmp_path / "image").write_bytes(data)
    assert json.loads(qemu_img("info", "--output=json", tmp_path / "image"))["format"] == probed(tmp_path / "image") == "raw"


PIECES = [
    b"#x\n",
    b"#",
    b" ",
    b"\n",
    b"\r\n",
    b"version=1",
    b"version=3",
    b"version=4",
    b"x",
    b"\0",
    b"# Disk DescriptorFile\n",
    b"koly",
    CLOOP,
    CLOOP[:30],
    b"QFI\xfb",
    b"\0\0\0\2",
    b"\0\0\0\1",
    b"LUKS\xba\xbe",
    b"\0\1",
    b"KDMV",
    b"COWD",
    b"QED\0",
    b"conectix",
    b"vhdxfile",
    b"WithouFreSpacExt",
    bytes(64),
    b"\x7f\x10\xda\xbe",
    b"A" * 490,
    bytes(300),
]


@pytest.mark.qemu
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=6), name=st.sampled_from(["image", "image.dmg"]))
def test_what_qemu_names_is_never_taken_for_raw(tmp_path: Path, pieces: list[bytes], name: str):
    path = tmp_path / name
    path.write_bytes(b"".join(pieces))
    done = Tool("qemu-img").run("info", "--output=json", path)
    found = json.loads(done.stdout)["format"] if done.returncode == 0 else "something that it could not open"
    assert found == "raw" or probed(path) != "raw"
