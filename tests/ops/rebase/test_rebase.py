"""Rebase, beside qemu-img rebase on the same chains."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd import extents as ext
from cowherd.errors import BackingFileError, HostFileError, InvalidRequest
from cowherd.formats.qcow2.image import Qcow2
from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from cowherd.ops.rebase.rebase import rebase
from cowherd.ops.rebase.rebased import NewBackingFileError
from cowherd.ops.side_by_side import SideBySide, cut_alike
from cowherd.storage.hostfile import HostFile
from tests.images import KIB, MIB, Features
from tests.ops.chains import Chain, Member
from tests.qemu import Tool

SMALL, MIDDLE, LARGE = 300 * KIB, MIB + 512, 3 * MIB - KIB
TOPS = (Features(), Features(4 * KIB, version=2), Features(16 * KIB, extended_l2=True), Features(512), Features(2 * MIB))


def family(directory: Path, top: Features, *, size: int = MIDDLE, old: int = MIDDLE, new: int = MIDDLE) -> Chain:
    """A root, an old base on it, a new base beside that one, a raw base, and the overlay to move."""
    return Chain(
        directory / "chain",
        Member("root", MIDDLE, Features(4 * KIB)),
        Member("old", old, Features(16 * KIB), "root"),
        Member("new", new, Features(64 * KIB), "root"),
        Member("raw", new, None),
        Member("top", size, top, "old"),
    )


def backing_of(path: Path) -> tuple[str, str | None] | None:
    with open_disk(path, format="qcow2", backing=False) as disk:
        reference = disk.layers[0].backing
        return None if reference is None else (reference.name, reference.format)


@pytest.mark.parametrize("target", ["new", "raw", "root", ""])
@pytest.mark.parametrize("top", TOPS, ids=str)
def test_the_overlay_shows_the_same_as_before(tmp_path: Path, qemu_img: Tool, top: Features, target: str):
    chain = family(tmp_path, top)
    shown = chain.content("top")
    backing_format = chain.format(target) if target else None
    rebase(chain.top, target, format="qcow2", backing_format=backing_format)
    assert chain.content("top") == shown
    assert backing_of(chain.top) == ((target, backing_format) if target else None)
    chain.assert_sound()


@pytest.mark.parametrize("target", ["new", "raw", "root", ""])
@pytest.mark.parametrize("top", [Features(), Features(512), Features(compression="zstd")], ids=str)
def test_it_takes_up_no_more_clusters_than_with_qemu(tmp_path: Path, qemu_img: Tool, top: Features, target: str):
    ours = family(tmp_path, top)
    theirs = ours.copy("qemu")
    recorded = ("-F", ours.format(target)) if target else ()
    qemu_img("rebase", "-f", "qcow2", "-b", target, *recorded, theirs.top)
    rebase(ours.top, target, format="qcow2", backing_format=ours.format(target) if target else None)
    assert ours.content("top") == theirs.content("top")
    assert data_bytes(ours.top) <= data_bytes(theirs.top)


def data_bytes(path: Path) -> int:
    with open_disk(path, format="qcow2", backing=False) as disk:
        return sum(ext.total(ext.ranges_of(ext.of_kind(batch, ext.DATA, ext.COMPRESSED))) for batch in disk.extents(depth=1))


@pytest.mark.parametrize("top", [Features(), Features(4 * KIB, version=2), Features(16 * KIB, extended_l2=True)], ids=str)
@pytest.mark.parametrize(
    "sizes", [(MIDDLE, SMALL, LARGE), (MIDDLE, LARGE, SMALL), (LARGE, SMALL, SMALL), (SMALL, 0, LARGE), (LARGE, LARGE, 0)]
)
def test_sizes_may_differ(tmp_path: Path, qemu_img: Tool, top: Features, sizes: tuple[int, int, int]):
    chain = family(tmp_path, top, size=sizes[0], old=sizes[1], new=sizes[2])
    shown = chain.content("top")
    rebase(chain.top, "new", format="qcow2", backing_format="qcow2")
    assert chain.content("top") == shown
    chain.assert_sound()


def test_a_disk_without_bytes_is_moved_too(tmp_path: Path, qemu_img: Tool):
    chain = family(tmp_path, Features(), size=0)
    rebase(chain.top, "new", format="qcow2", backing_format="qcow2")
    assert backing_of(chain.top) == ("new", "qcow2")
    assert chain.content("top") == b""


@pytest.mark.parametrize("top", [Features(), Features(512), Features(16 * KIB, extended_l2=True, compression="zstd")], ids=str)
@pytest.mark.parametrize("target", ["new", ""])
def test_what_is_written_may_be_compressed(tmp_path: Path, qemu_img: Tool, top: Features, target: str):
    """With subclusters, too, where QEMU 10.0 ends with a failed assertion."""
    chain = family(tmp_path, top)
    shown = chain.content("top")
    with open_disk(chain["old"], format="qcow2", writable=True) as disk:
        disk.write(MIB - 256 * KIB, b"compressible " * 10000)
    shown = chain.content("top")
    rebase(chain.top, target, format="qcow2", backing_format="qcow2" if target else None, compress=True)
    assert chain.content("top") == shown
    with open_disk(chain.top, format="qcow2", backing=False) as disk:
        assert any((batch["kind"] == ext.COMPRESSED).any() for batch in disk.extents())
    chain.assert_sound()


def test_bytes_that_both_chains_share_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chain = Chain(
        tmp_path / "chain",
        Member("root", 32 * MIB, Features()),
        Member("old", 32 * MIB, Features(), "root"),
        Member("new", 32 * MIB, Features(), "root"),
        Member("top", 32 * MIB, Features(), "old"),
        requests=0,
    )
    with open_disk(chain["root"], format="qcow2", writable=True) as disk:
        disk.write(0, b"r" * (20 * MIB))
    with open_disk(chain["old"], format="qcow2", writable=True) as disk:
        disk.write(MIB, b"o" * (64 * KIB))
    done = rebase(chain.top, "new", format="qcow2", backing_format="qcow2")
    assert (done.bytes_compared, done.bytes_written) == (64 * KIB, 64 * KIB)


def test_unsafe_mode_opens_no_backing_file_and_changes_only_the_name(tmp_path: Path, qemu_img: Tool):
    chain = family(tmp_path, Features())
    chain["old"].rename(chain["old"].with_name("moved"))
    with pytest.raises(BackingFileError):
        rebase(chain.top, "moved", format="qcow2", backing_format="qcow2")
    rebase(chain.top, "nowhere", format="qcow2", backing_format="raw", unsafe=True)
    assert backing_of(chain.top) == ("nowhere", "raw")
    assert '"backing-filename": "nowhere"' in qemu_img("info", "--output=json", chain.top)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["-b", "nowhere", "-F", "qcow2"], {"backing": "nowhere", "backing_format": "qcow2"}),
        (["-b", "new"], {"backing": "new"}),
        (["-b", "new", "-F", "beef"], {"backing": "new", "backing_format": "beef"}),
        (["-u", "-b", "new"], {"backing": "new", "unsafe": True}),
        (["-u", "-b", "x" * 1024, "-F", "raw"], {"backing": "x" * 1024, "backing_format": "raw", "unsafe": True}),
    ],
)
def test_refusals_are_in_qemus_words_and_change_nothing(
    tmp_path: Path, qemu_img: Tool, monkeypatch: pytest.MonkeyPatch, arguments: list[str], options: dict[str, object]
):
    chain = family(tmp_path, Features())
    monkeypatch.chdir(chain.directory)
    before = chain.top.read_bytes()
    with pytest.raises((InvalidRequest, NewBackingFileError)) as caught:
        rebase("top", format="qcow2", **options)
    assert chain.top.read_bytes() == before
    expected = qemu_img.run("rebase", "-f", "qcow2", *arguments, "top").stderr
    if "x" * 1024 in arguments:  # QEMU calls it an invalid argument
        assert "No space left" in str(caught.value)
    else:
        assert f"qemu-img: {caught.value}\n" == expected


def test_a_raw_image_can_not_be_rebased(tmp_path: Path, qemu_img: Tool):
    chain = family(tmp_path, Features())
    with pytest.raises(InvalidRequest) as caught:
        rebase(chain["raw"], "new", format="raw", backing_format="qcow2")
    assert f"qemu-img: {caught.value}\n" == qemu_img.run("rebase", "-f", "raw", "-b", "new", "-F", "qcow2", chain["raw"]).stderr
    with pytest.raises(InvalidRequest, match="Compression not supported"):
        rebase(chain["raw"], "new", format="raw", backing_format="qcow2", compress=True)


@pytest.mark.parametrize("point", range(0, 40, 3))
def test_a_crash_at_any_write_leaves_what_the_overlay_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: int):
    """The host stops taking writes after the first `point`; what reached the file until then is what QEMU sees."""
    chain = family(tmp_path, Features(4 * KIB))
    shown = chain.content("top")
    original, calls = HostFile.pwritev, 0

    def dying(file: HostFile, offset: int, buffers: list[bytes]) -> None:
        nonlocal calls
        calls += 1
        if calls > point:
            raise HostFileError(file.path, "write", OSError(5, os.strerror(5)))
        original(file, offset, buffers)

    monkeypatch.setattr(HostFile, "pwritev", dying)
    try:
        rebase(chain.top, "raw", format="qcow2", backing_format="raw")
    except HostFileError:
        assert calls > point
    monkeypatch.undo()
    assert chain.content("top") == shown
    Tool("qemu-img")("check", "-f", "qcow2", chain.top, codes=(0, 3))  # leaked clusters at worst


def test_the_header_is_written_after_all_data_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chain = family(tmp_path, Features())
    shown = chain.content("top")

    def crash(image: Qcow2, reference: object, **_: object) -> None:
        copy = chain.copy("crashed")
        for name in ("old", "raw"):  # with either backing file
            Tool("qemu-img")("rebase", "-u", "-f", "qcow2", "-b", name, "-F", chain.format(name), copy.top)
            assert copy.content("top") == shown
        raise KeyboardInterrupt

    monkeypatch.setattr(Qcow2, "set_backing", crash)
    with pytest.raises(KeyboardInterrupt):
        rebase(chain.top, "raw", format="qcow2", backing_format="raw")
    assert backing_of(chain.top) == ("old", "qcow2")


def test_progress_rises_to_the_size(tmp_path: Path):
    chain = family(tmp_path, Features())
    calls: list[tuple[int, int]] = []
    rebase(chain.top, "raw", format="qcow2", backing_format="raw", progress=lambda done, total: calls.append((done, total)))
    assert calls == sorted(calls)
    assert calls[-1] == (MIDDLE, MIDDLE)


def test_an_overlay_can_not_stand_on_itself(tmp_path: Path):
    chain = family(tmp_path, Features())
    before = chain.top.read_bytes()
    with pytest.raises(NewBackingFileError):
        rebase(chain.top, "top", format="qcow2", backing_format="qcow2")
    assert chain.top.read_bytes() == before


@settings(max_examples=60)
@given(st.lists(st.integers(1, 50), max_size=20), st.lists(st.integers(1, 50), max_size=20), st.randoms(use_true_random=False))
def test_covers_are_cut_at_each_others_borders(lengths: list[int], others: list[int], generator: random.Random):
    def cover(parts: list[int], total: int) -> ext.Extents:
        lengths = [length for length in (*parts, total - sum(parts)) if length]
        starts = [sum(lengths[:index]) for index in range(len(lengths))]
        rows = [
            (start, length, generator.choice((ext.NOWHERE, 1000 * start)), 0, generator.randrange(4))
            for start, length in zip(starts, lengths, strict=True)
        ]
        return np.array(rows, ext.EXTENT)

    total = max(sum(lengths), sum(others), 1)
    a, b = cover(lengths, total), cover(others, total)
    cut_a, cut_b = cut_alike(a, b)
    assert cut_a["start"].tolist() == cut_b["start"].tolist()
    assert cut_a["length"].tolist() == cut_b["length"].tolist()
    for whole, cut in ((a, cut_a), (b, cut_b)):
        assert by_byte(whole) == by_byte(cut)


def by_byte(cover: ext.Extents) -> list[tuple[int, int, int]]:
    return [
        (start + i, kind, host + i if host != ext.NOWHERE else host)
        for start, length, host, _, kind in cover.tolist()
        for i in range(length)
    ]


def test_one_place_of_one_file_is_known_to_be_equal_through_different_chains(tmp_path: Path):
    chain = family(tmp_path, Features())
    shutil.copy(chain["old"], chain["old"].with_name("twin"))
    with open_disk(chain["old"], format="qcow2") as old, open_disk(chain["old"].with_name("twin"), format="qcow2") as twin:
        for other, all_known in ((old, True), (twin, False)):
            both = SideBySide(Disk(old.layers, writable=False), other)
            assert bool(both.known_equal(*both.covers(0, MIDDLE)).all()) is all_known
