"""Files that are no disk are named for what they are, and disks are not taken for one of them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from cowherd.ops.inspect.content import ends_as_fixed_vhd, foreign_content
from tests.herd.qemu_herd import noise, qemu_img

DISK = noise(100_000)


def described(data: bytes) -> str | None:
    return foreign_content(data[:512], len(data))


def archived(kind: str) -> bytes:
    """A disk in an archive, as Python's own modules make it."""
    out = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=out, mode="w") as archive:
            member = tarfile.TarInfo("disk.raw")
            member.size = len(DISK)
            archive.addfile(member, io.BytesIO(DISK))
    else:
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("disk.raw", DISK)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (gzip.compress(DISK), "gzip"),
        (bz2.compress(DISK), "bzip2"),
        (bz2.compress(b""), "bzip2"),
        (lzma.compress(DISK), "xz"),
        (lzma.compress(DISK, lzma.FORMAT_ALONE), "lzma"),
        (archived("tar"), "tar"),
        (archived("zip"), "zip"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_python_packs_is_named(data: bytes, name: str):
    assert name in (described(data) or "")


@pytest.mark.parametrize("program", ["zstd", "lz4", "lzop", "lzip", "7z"])
def test_what_other_programs_pack_is_named(tmp_path: Path, program: str):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    (tmp_path / "disk").write_bytes(DISK)
    command = {"7z": [program, "a", "out", "disk"], "lz4": [program, "disk", "out"]}.get(program, [program, "-o", "out", "disk"])
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    out = next(path for path in tmp_path.iterdir() if path.name.startswith("out"))
    assert program in (described(out.read_bytes()) or "")


@pytest.mark.parametrize(
    ("page", "name"),
    [
        (b"<!DOCTYPE html>\n<html><head><title>404</title>" + b"x" * 5000, "HTML"),
        (b"\xef\xbb\xbf\r\n  <HTML lang=en>", "HTML"),
        (b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>', "XML"),
        (b'{"message": "Not Found"}', "JSON"),
        (b'[\n  {\n    "error": 1}]' + b" " * 600, "JSON"),
        (b"404: Not Found", "text"),
        (b"d2f0...  debian-12.qcow2\n" * 50, "text"),
        ("Fichier non trouvé\n".encode(), "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2361393152\n", "Git LFS"),
    ],
)
def test_what_a_server_sends_instead_of_an_image_is_named(page: bytes, name: str):
    assert name in (described(page) or "")


@pytest.mark.parametrize(
    "disk",
    [
        bytes(512),
        DISK,
        b"\xeb\x63\x90" + bytes(507) + b"\x55\xaa",
        b"x" * 512 * 1000,
        b"\x00" * 32768 + b"\x01CD001\x01",
        b"LABELONE" + bytes(504),
        b"hsqs" + bytes(1000),
        b"{" + bytes(600),
        b"BZh" + bytes(600),
        b"hello world" + bytes(1000),
        bytes(1),
        b"\0ustar" + bytes(600),
    ],
    ids=lambda disk: repr(disk[:12]),
)
def test_a_disk_is_a_disk_whatever_it_begins_with(disk: bytes):
    assert described(disk) is None


def test_a_text_that_may_go_on_is_not_yet_one():
    page = b"404: Not Found\n" * 40
    assert foreign_content(page[:512]) is None
    assert foreign_content(page[:512], len(page)) == "a text"


@pytest.mark.qemu
def test_a_fixed_vhd_is_known_by_its_footer(tmp_path: Path):
    qemu_img("create", "-q", "-f", "vpc", "-o", "subformat=fixed", tmp_path / "fixed.vhd", "1M")
    data = (tmp_path / "fixed.vhd").read_bytes()
    assert ends_as_fixed_vhd(data[-1023:])
    assert not ends_as_fixed_vhd(data[:-512])
