"""Compare, beside qemu-img compare: the same verdicts, told in the same words."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from cowherd.errors import HostFileError, ImageFormatError
from cowherd.image.open import open_disk
from cowherd.image.reading import Reading
from cowherd.ops.compare.compare import compare
from cowherd.ops.compare.comparison import Comparison, ReadFailed
from cowherd.ops.compare.content import first_difference
from cowherd.storage.hostfile import HostFile
from tests.images import KIB, MIB, TELLING, Features, Model, create_with_qemu, run_in_qemu, workload
from tests.ops.chains import Chain, Member
from tests.qemu import Tool


def in_qemus_words(found: Comparison) -> str:
    if found.reason == "size":
        return "Strict mode: Image size mismatch!\n"
    if found.reason == "status":
        return f"Strict mode: Offset {found.offset} block status mismatch!\n"
    warning = "Warning: Image size mismatch!\n" if found.passed_smaller_end else ""
    return warning + ("Images are identical.\n" if found.identical else f"Content mismatch at offset {found.offset}!\n")


def assert_as_qemu(a: Path, b: Path, format_a: str, format_b: str) -> Comparison:
    """Compares with both tools, in both modes; returns what cowherd found in the usual one."""
    for strict in (True, False):
        done = Tool("qemu-img").run("compare", "-f", format_a, "-F", format_b, *["-s"] * strict, a, b)
        found = compare(a, b, format_a=format_a, format_b=format_b, strict=strict)
        assert in_qemus_words(found) == done.stdout
        assert (0 if found.identical else 1) == done.returncode
    return found


@pytest.mark.parametrize("features", TELLING, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_random_images_compare_as_with_qemu(tmp_path: Path, qemu_img: Tool, features: Features, seed: int):
    size = features.odd_size
    a, b = (create_with_qemu(tmp_path / name, features, size) for name in "ab")
    requests = workload(seed, features, size, 12)
    run_in_qemu(a, requests, features)
    run_in_qemu(b, requests[: 12 - seed * 4], features)
    flat = tmp_path / "flat"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", a, flat)
    assert_as_qemu(a, b, "qcow2", "qcow2")
    assert assert_as_qemu(a, flat, "qcow2", "raw").identical
    assert assert_as_qemu(flat, a, "raw", "qcow2").identical


@pytest.mark.parametrize("seed", range(4))
def test_chains_compare_as_with_qemu(tmp_path: Path, qemu_img: Tool, seed: int):
    sizes = random.Random(seed).choices((300 * KIB, MIB + 512, 3 * MIB - KIB), k=4)
    chain = Chain(
        tmp_path / "chain",
        Member("base", sizes[0], Features(4 * KIB), seed=seed),
        Member("other", sizes[1], None, seed=seed),
        Member("middle", sizes[2], Features(16 * KIB, extended_l2=True), "base", seed=seed),
        Member("top", sizes[3], Features(), "middle", seed=seed),
    )
    for a, b in (("top", "middle"), ("middle", "top"), ("base", "top"), ("other", "top"), ("top", "other"), ("top", "top")):
        assert_as_qemu(chain[a], chain[b], chain.format(a), chain.format(b))


@pytest.mark.parametrize("offset", [0, 1, 511, 512, 65535, 65536, 2 * MIB - 1, 2 * MIB, 5 * MIB + 3, 6 * MIB - 1])
def test_a_single_byte_is_told_to_the_sector(tmp_path: Path, qemu_img: Tool, offset: int):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"x" * (6 * MIB))
    shutil.copy(a, b)
    Model(b, 6 * MIB, keep=True).put(offset, b"y")
    found = assert_as_qemu(a, b, "raw", "raw")
    assert (found.offset, found.reason) == (offset // 512 * 512, "content")


@pytest.mark.parametrize(("length", "tail"), [(MIB, b""), (MIB, b"z"), (MIB - 24, b""), (MIB + 24, b"z"), (0, b""), (0, b"z")])
def test_the_larger_images_rest_must_be_zeros(tmp_path: Path, qemu_img: Tool, length: int, tail: bytes):
    a, b = Model(tmp_path / "a", length), Model(tmp_path / "b", 3 * MIB)
    b.put(2 * MIB, tail)
    for first, second in ((a, b), (b, a)):
        found = assert_as_qemu(first.path, second.path, "raw", "raw")
        assert found.size_differs
        assert found.identical is not bool(tail)


def test_a_file_that_ends_inside_a_sector(tmp_path: Path, qemu_img: Tool):
    a, b, c = (tmp_path / name for name in "abc")
    a.write_bytes(b"x" * 1000)
    b.write_bytes(b"x" * 1000 + bytes(24))
    c.write_bytes(b"x" * 1000 + bytes(23) + b"y")
    assert assert_as_qemu(a, b, "raw", "raw").identical
    assert assert_as_qemu(a, c, "raw", "raw").offset == 1000
    assert assert_as_qemu(a, a, "raw", "raw").identical


def test_shared_bytes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chain = Chain(
        tmp_path / "chain",
        Member("base", 8 * MIB),
        Member("a", 8 * MIB, Features(), "base"),
        Member("b", 8 * MIB, Features(), "base"),
        requests=0,
    )
    with open_disk(chain["base"], format="qcow2", writable=True) as disk:
        disk.write(0, b"b" * (8 * MIB))
    for name in "ab":
        with open_disk(chain[name], format="qcow2", writable=True) as disk:
            disk.write(MIB, b"own" * 1000)
    pieces: list[int] = []
    original = Reading.read
    monkeypatch.setattr(Reading, "read", lambda chain, rows, buffer: pieces.append(len(buffer)) or original(chain, rows, buffer))
    assert compare(chain["a"], chain["b"], format_a="qcow2", format_b="qcow2").identical
    assert sum(pieces) == 2 * 64 * KIB
    pieces.clear()
    with open_disk(chain["a"], format="qcow2") as a, open_disk(chain["b"], format="qcow2") as b:
        assert first_difference(Reading.of(a), Reading.of(b), 8 * MIB) is None
    assert sum(pieces) == 2 * 64 * KIB


def test_a_difference_is_found_among_pieces_that_lie_apart(tmp_path: Path, qemu_img: Tool):
    a, b = (create_with_qemu(tmp_path / name, Features(), 64 * MIB) for name in "ab")
    for path, own in ((a, b"l"), (b, b"r")):
        with open_disk(path, format="qcow2", writable=True) as disk:
            for number in range(40):
                disk.write(number * 3 * 64 * KIB, bytes([number + 1]) * 64 * KIB)
            disk.write(31 * 3 * 64 * KIB + 5000, own)
    assert assert_as_qemu(a, b, "qcow2", "qcow2").offset == 31 * 3 * 64 * KIB + 4608


def test_progress_rises_to_the_larger_size(tmp_path: Path):
    a, b = Model(tmp_path / "a", 5 * MIB), Model(tmp_path / "b", 9 * MIB)
    a.put(0, b"x" * (5 * MIB))
    b.put(0, b"x" * (5 * MIB))
    calls: list[tuple[int, int]] = []
    assert compare(a.path, b.path, format_a="raw", format_b="raw", progress=lambda *call: calls.append(call)).identical
    assert calls == sorted(calls)
    assert calls[-1] == (9 * MIB, 9 * MIB)
    assert len(calls) > 2


def test_an_image_that_can_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    a, b = Model(tmp_path / "a", MIB), Model(tmp_path / "b", MIB)
    a.put(64 * KIB, b"x")
    b.put(64 * KIB, b"x")
    original = HostFile.preadinto

    def failing(file: HostFile, offset: int, buffer: memoryview) -> None:
        if file.path == b.path:
            raise HostFileError(file.path, "read", OSError(5, "Input/output error"))
        original(file, offset, buffer)

    monkeypatch.setattr(HostFile, "preadinto", failing)
    with pytest.raises(ReadFailed, match=r"Error while reading offset 65536 of .*b: .*Input/output error") as caught:
        compare(a.path, b.path, format_a="raw", format_b="raw")
    assert (Path(caught.value.path), caught.value.offset) == (b.path, 64 * KIB)


def test_what_is_no_image_is_refused(tmp_path: Path):
    Model(tmp_path / "a", MIB)
    with pytest.raises(ImageFormatError):
        compare(tmp_path / "a", tmp_path / "a", format_a="qcow2", format_b="raw")


def test_disks_with_holes_of_tebibytes_take_no_time(tmp_path: Path):
    a = create_with_qemu(tmp_path / "a", Features(), 1 << 45)
    b = create_with_qemu(tmp_path / "b", Features(2 * MIB), 1 << 45)
    for path in (a, b):
        with open_disk(path, format="qcow2", writable=True) as disk:
            disk.write((1 << 45) - 512, b"x" * 512)
    assert compare(a, b, format_a="qcow2", format_b="qcow2").identical


def test_one_file_as_two_formats_is_not_taken_for_equal(tmp_path: Path, qemu_img: Tool):
    path = create_with_qemu(tmp_path / "image", Features(), MIB)
    with open_disk(path, format="qcow2", writable=True) as disk:
        disk.write(0, b"QFI\xfb" + b"x" * (512 * KIB))
    assert assert_as_qemu(path, path, "qcow2", "raw").offset == 0
