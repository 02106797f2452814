"""What is let through as it arrives: the bytes are of the stated format, and harmless."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from cowherd.service.intake.faults import Refused
from cowherd.service.intake.inspection import InFlight, Rules
from cowherd.service.intake.stored import inspect_stored
from tests.hostile.corpus import Case, corpus, seed
from tests.images import Features, create_with_cowherd
from tests.qemu import Tool

MIB = 1 << 20
TEXT = b"A text of someone who documents things.\n"
DISC = bytes(0x8001) + b"CD001" + bytes(100_000)
LUKS = b"LUKS\xba\xbe\0\x01" + bytes(100_000)


def arrive(data: bytes, stated: str, *, rules: Rules | None = None, step: int = 65536, length: int | None = None) -> int | None:
    flight = InFlight(stated, rules or Rules(), length)
    for begin in range(0, len(data), step):
        flight.feed(data[begin : begin + step])
    return flight.finish()


def refusal(data: bytes, stated: str, **more: object) -> str:
    with pytest.raises(Refused) as caught:
        arrive(data, stated, **more)
    return caught.value.check


@pytest.mark.parametrize(
    ("stated", "data"),
    [
        ("raw", os.urandom(1024)),
        ("raw", TEXT),
        ("raw", b"\x1f\x8b" + os.urandom(2000)),
        ("raw", b""),
        ("raw", DISC),
        ("raw", LUKS),
        ("ami", os.urandom(70_000)),
        ("aki", TEXT),
        ("ploop", b"WithoutFreeSpace" + bytes(70_000)),
    ],
)
def test_flat_bytes_are_let_through_and_a_raw_disk_is_as_large_as_its_file(stated: str, data: bytes):
    assert arrive(data, stated) == (len(data) if stated == "raw" else None)


@pytest.mark.parametrize("step", [1, 100, 1 << 20])
def test_a_sound_qcow2_is_let_through_however_it_is_split(tmp_path: Path, step: int):
    data = seed().write(tmp_path / "seed").read_bytes()[: None if step > 1 else 40_000]
    if step > 1:
        assert arrive(data, "qcow2", step=step) == 2 * MIB
    else:
        assert refusal(data, "qcow2", step=step) == "inside-the-file"


def test_extended_l2_is_let_through(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image", Features(extended_l2=True), MIB)
    assert arrive(path.read_bytes(), "qcow2") == MIB


@pytest.mark.parametrize(
    ("stated", "found", "data"),
    [
        ("qcow2", "raw", os.urandom(1024)),
        ("qcow2", "raw", b""),
        ("qcow2", "iso", DISC),
        ("iso", "raw", os.urandom(70_000)),
        ("vmdk", "raw", bytes(70_000)),
        ("vdi", "vhdx", b"vhdxfile" + bytes(70_000)),
        ("raw", "vmdk", b"KDMV" + bytes(70_000)),
        ("raw", "vhd", b"conectix" + bytes(70_000)),
        ("vhd", "raw", bytes(70_000)),
        ("ami", "iso", DISC),
        ("ami", "vmdk", b"KDMV"),
    ],
)
def test_bytes_of_another_format_are_refused_unless_that_is_switched_off(stated: str, found: str, data: bytes):
    with pytest.raises(Refused, match=f"says '{stated}', and its content is {found}"):
        arrive(data, stated)
    arrive(data, stated, rules=Rules(match_format=False))


def test_a_qcow2_that_is_called_something_else_must_be_harmless_even_if_formats_need_not_match(tmp_path: Path):
    image = seed()
    image.backing(b"/etc/passwd")
    data = image.write(tmp_path / "image").read_bytes()
    assert refusal(data, "vmdk", rules=Rules(match_format=False)) == "backing-file"


def test_a_refusal_comes_as_soon_as_the_head_has_come(tmp_path: Path):
    image = seed()
    image.backing(b"/etc/passwd")
    flight = InFlight("qcow2", Rules())
    with pytest.raises(Refused, match="backing-file"):
        flight.feed(image.write(tmp_path / "image").read_bytes()[: 64 << 10])


def test_a_disk_above_the_limit_is_refused(tmp_path: Path):
    image = seed()
    image.field("size", 1 << 50)
    assert refusal(image.write(tmp_path / "image").read_bytes(), "qcow2") == "virtual-size"
    assert refusal(bytes(2048), "raw", rules=Rules(max_virtual_size=2047)) == "virtual-size"


def test_fewer_bytes_than_announced_are_refused():
    assert refusal(bytes(2048), "raw", length=4096) == "length"


def arrive_and_stay(path: Path, stated: str, rules: Rules | None = None) -> None:
    """Takes an image through both stages, as an upload does."""
    rules = rules or Rules()
    flight = InFlight(stated, rules, path.stat().st_size)
    with path.open("rb") as file:
        while block := file.read(MIB):
            flight.feed(block)
    flight.finish()
    inspect_stored(path, flight.format or "", rules.max_virtual_size)


def hardest() -> list[Case]:
    """Hostile images that only the second stage can refuse, one of each category: a process for each takes its time."""
    found: dict[str, Case] = {}
    for case in corpus():
        if case.category in ("L1 entries", "L2 entries", "refcounts", "compressed data", "cut files"):
            found.setdefault(case.category, case)
    return list(found.values())


@pytest.mark.parametrize("case", [*hardest(), *(case for case in corpus() if case.category == "backing files")], ids=str)
def test_hostile_images_do_not_get_through_both_stages(case: Case, tmp_path: Path):
    with pytest.raises(Refused):
        arrive_and_stay(case.write(tmp_path / "image"), case.format)


FOREIGN = [
    ("vmdk", "monolithicSparse"),
    ("vmdk", "streamOptimized"),
    ("vhd", "dynamic"),
    ("vhd", "fixed"),
    ("vdi", ""),
    ("vhdx", ""),
]


def foreign(tmp_path: Path, format: str, kind: str, size: int = 3 * MIB) -> Path:
    path = tmp_path / f"image.{format}"
    options = ["-o", f"subformat={kind}" + (",force_size=on" if format == "vhd" else "")] if kind else []
    source = tmp_path / "source"
    source.write_bytes(os.urandom(MIB) + bytes(size - MIB))
    Tool("qemu-img")("convert", "-f", "raw", "-O", {"vhd": "vpc"}.get(format, format), *options, source, path)
    return path


@pytest.mark.qemu
@pytest.mark.parametrize(("format", "kind"), FOREIGN)
def test_images_of_other_formats_tell_their_size(tmp_path: Path, format: str, kind: str):
    path = foreign(tmp_path, format, kind)
    assert arrive(path.read_bytes(), format) is None
    assert inspect_stored(path, format, 3 * MIB) == (3 * MIB, None)
    with pytest.raises(Refused, match="at most"):
        inspect_stored(path, format, 3 * MIB - 1)


@pytest.mark.qemu
@pytest.mark.parametrize("kind", ["monolithicFlat", "twoGbMaxExtentSparse"])
def test_a_vmdk_that_leads_to_other_files_is_refused_whatever_it_is_called(tmp_path: Path, kind: str):
    path = foreign(tmp_path, "vmdk", kind)
    for rules in (Rules(), Rules(match_format=False)):
        with pytest.raises(Refused):
            arrive_and_stay(path, "raw", rules)


@pytest.mark.qemu
@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        (b"parentCID=ffffffff", b"parentCID=00000001", "backing-file"),
        (b"ddb.adapterType", b'\nparentFileNameHint="/etc/passwd"\n#', "backing-file"),
        (b'createType="monolithicSparse"', b'createType="monolithicFlat"  ', "vmdk-type"),
        (b'SPARSE "image.vmdk"', b'FLAT   "image.vmdk"', "vmdk-descriptor"),
        (b'SPARSE "image.vmdk"', b'SPARSE "/etc/passwd', "vmdk-descriptor"),
        (b"# Extent description", b'RW 1 FLAT "/etc/fstab"', "vmdk-descriptor"),
    ],
)
def test_a_vmdk_whose_descriptor_names_other_files_is_refused(tmp_path: Path, old: bytes, new: bytes, check: str):
    path = foreign(tmp_path, "vmdk", "monolithicSparse")
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new.ljust(len(old)), 1) if len(new) <= len(old) else _inserted(data, old, new))
    with pytest.raises(Refused) as caught:
        inspect_stored(path, "vmdk", MIB << 10)
    assert caught.value.check == check


def _inserted(data: bytes, old: bytes, new: bytes) -> bytes:
    """Puts a longer text in place of another within the zeros after the descriptor."""
    at, end = data.index(old), data.index(b"\0", data.index(old))
    tail = data[at + len(old) : end]
    grown = data[:at] + new + tail
    return grown + data[len(grown) :]


@pytest.mark.qemu
@pytest.mark.parametrize(
    ("format", "kind", "offset", "data", "check"),
    [
        ("vmdk", "monolithicSparse", 12, bytes(8), "vmdk-type"),
        ("vmdk", "monolithicSparse", 28, b"\xff" * 4, "vmdk-descriptor"),
        ("vmdk", "monolithicSparse", 56, b"\xff" * 8, "vmdk-footer"),
        ("vhd", "dynamic", 60, b"\0\0\0\x04", "backing-file"),
        ("vdi", "", 76, b"\x04", "backing-file"),
        ("vhdx", "", 192 << 10, b"none", "vhdx-metadata"),
    ],
)
def test_a_spoilt_head_is_refused(tmp_path: Path, format: str, kind: str, offset: int, data: bytes, check: str):
    path = foreign(tmp_path, format, kind)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    with pytest.raises(Refused) as caught:
        inspect_stored(path, format, MIB << 10)
    assert caught.value.check == check


@pytest.mark.parametrize("format", ["vmdk", "vhd", "vdi", "vhdx", "iso"])
@pytest.mark.parametrize("data", [b"", b"\xff" * 100, b"\xff" * (300 << 10), b"KDMV" + b"\xff" * 600, os.urandom(300 << 10)])
def test_nonsense_in_place_of_a_head_is_refused_or_harmless(tmp_path: Path, format: str, data: bytes):
    path = tmp_path / "image"
    path.write_bytes(data)
    with contextlib.suppress(Refused):
        assert inspect_stored(path, format, 1 << 62).virtual_size in range(1 << 62)


def test_a_disc_tells_its_size(tmp_path: Path):
    descriptor = bytearray(b"\x01CD001" + bytes(2042))
    descriptor[80:84], descriptor[128:130] = (32).to_bytes(4, "little"), (2048).to_bytes(2, "little")
    path = tmp_path / "disc"
    path.write_bytes(bytes(0x8000) + descriptor)
    assert inspect_stored(path, "iso", MIB) == (32 * 2048, None)
    path.write_bytes(bytes(0x8001) + b"NSR02" + bytes(100))
    assert inspect_stored(path, "iso", MIB) == (0x8001 + 105, None)
