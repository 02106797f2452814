"""A format that is added from outside, by one entry, works wherever images are only read, and refuses every change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cowherd
from cowherd.cli.guard.main import main as guard
from cowherd.errors import ImageFormatError, InvalidRequest, UnsupportedFeature
from cowherd.formats import registry
from cowherd.herd.merge.merge import merge
from cowherd.herd.overlays.clone import clone
from cowherd.herd.report.tree import tree
from cowherd.image.open import open_disk
from cowherd.ops.compare.compare import compare
from cowherd.storage.hostfile import HostFile
from tests.cli.img.both import cowherd_img
from tests.formats.toy import TOY, Toy, write_toy

KIB = 1 << 10
CONTENT = bytes(range(1, 256)) * 300 + bytes(200 * KIB) + b"the end" * 9000 + bytes(1)  # ends inside a sector
SIZE = -(-len(CONTENT) // 512) * 512
CONTENT = CONTENT.ljust(SIZE, b"\0")


@pytest.fixture(autouse=True)
def known():
    """The format is known while a test runs."""
    registry.add(TOY)
    yield
    del registry.FORMATS[TOY.name]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A toy image in the working directory, and a raw one of the same content beside it."""
    monkeypatch.chdir(tmp_path)
    Path("disk.raw").write_bytes(CONTENT)
    return write_toy(tmp_path / "disk.toy", CONTENT)


@pytest.fixture
def overlay(toy):
    """A qcow2 overlay on the toy image."""
    assert cowherd_img("create", "-f", "qcow2", "-b", "disk.toy", "-F", "toy", "over.qcow2").code == 0
    return toy.with_name("over.qcow2")


def test_it_is_recognised_and_told(toy):
    told = json.loads(cowherd_img("info", "--output=json", "disk.toy").out)
    assert (told["format"], told["virtual-size"], told["cluster-size"]) == ("toy", SIZE, 64 * KIB)
    assert "format-specific" not in told
    assert "file format: toy\n" in cowherd_img("info", "-f", "toy", "disk.toy").out


def test_it_is_told_as_a_part_of_a_chain(overlay):
    told = json.loads(cowherd_img("info", "--backing-chain", "--output=json", "over.qcow2").out)
    assert [image["format"] for image in told] == ["qcow2", "toy"]


@pytest.mark.parametrize("options", [("-O", "raw"), ("-O", "qcow2"), ("-O", "qcow2", "-c")], ids=" ".join)
@pytest.mark.parametrize("source", ["disk.toy", "over.qcow2"])
def test_it_is_a_source_of_conversions(overlay, source, options):
    assert cowherd_img("convert", *options, source, "copy").code == 0
    with open_disk("copy") as copy:
        assert copy.read(0, copy.size) == CONTENT


@pytest.mark.parametrize("other", ["disk.raw", "over.qcow2"])
def test_it_is_compared_with_other_formats(overlay, other):
    assert cowherd_img("compare", "disk.toy", other).out == "Images are identical.\n"
    with open_disk(other, writable=True) as disk:
        disk.write(100 * KIB, b"!")
    assert not compare("disk.toy", other).identical


def test_its_map_tells_where_its_chunks_lie(toy):
    told = json.loads(cowherd_img("map", "--output=json", "disk.toy").out)
    assert [(one["start"], one["length"]) for one in told if one["zero"]] == [(128 * KIB, 128 * KIB)]
    held = toy.read_bytes()
    for one in told:
        if one["data"]:
            start, place = one["start"], one["offset"]
            assert held[place : place + one["length"]] == CONTENT[start : start + one["length"]]


def test_a_check_is_refused_as_that_of_a_raw_image(toy):
    raw, found = cowherd_img("check", "-f", "raw", "disk.raw"), cowherd_img("check", "disk.toy")
    assert (found.code, found.err) == (raw.code, raw.err) == (63, "cowherd-img: This image format does not support checks\n")


def test_an_overlay_of_it_shows_it_and_can_leave_it(overlay):
    with open_disk(overlay) as disk:
        assert disk.read(0, disk.size) == CONTENT
    assert cowherd_img("rebase", "-b", "disk.raw", "-F", "raw", "over.qcow2").code == 0
    assert cowherd_img("rebase", "-b", "disk.toy", "-F", "toy", "over.qcow2").code == 0
    with open_disk(overlay) as disk:
        assert [layer.format for layer in disk.layers] == ["qcow2", "toy"]
        assert disk.read(0, disk.size) == CONTENT


def test_a_herd_knows_it_as_a_base(overlay, capsys):
    clone("disk.toy", "clone.qcow2")
    assert guard(["bind", "over.qcow2"]) == 0
    told = [(node.path.name, node.format, node.virtual_size, node.status.value) for node in tree([overlay.parent]).nodes]
    assert told == [
        ("disk.toy", "toy", SIZE, "ok"),
        ("clone.qcow2", "qcow2", SIZE, "ok"),
        ("over.qcow2", "qcow2", SIZE, "ok"),
    ]
    assert guard(["verify", "--full", "clone.qcow2"]) == 0
    assert guard(["tree", "."]) == 0
    assert "disk.toy        toy" in capsys.readouterr().out


def test_a_herd_tells_a_base_that_is_no_such_image(overlay):
    overlay.with_name("disk.toy").write_bytes(b"something else" * 100)
    base = next(node for node in tree([overlay.parent]).nodes if node.path.name == "disk.toy")
    assert base.virtual_size is None
    assert "it is no toy image" in base.detail


CHANGES = {
    "resize": ("resize", "disk.toy", "+1M"),
    "resize as named": ("resize", "-f", "toy", "disk.toy", "+1M"),
    "rebase": ("rebase", "-b", "disk.raw", "-F", "raw", "disk.toy"),
    "rebase -u": ("rebase", "-u", "-b", "disk.raw", "-F", "raw", "disk.toy"),
    "rebase -c": ("rebase", "-c", "-b", "disk.raw", "-F", "raw", "disk.toy"),
    "commit": ("commit", "disk.toy"),
    "snapshot": ("snapshot", "-c", "name", "disk.toy"),
    "write into": ("convert", "-n", "-O", "toy", "disk.raw", "disk.toy"),
    "make": ("create", "-f", "toy", "new.toy", "1M"),
    "convert to": ("convert", "-O", "toy", "disk.raw", "new.toy"),
    "copy to": ("dd", "-O", "toy", "if=disk.raw", "of=new.toy"),
    "measure": ("measure", "-O", "toy", "disk.raw"),
}
REASONS = {
    "resize": "writing to an image of the format 'toy' is not supported",
    "resize as named": "writing to an image of the format 'toy' is not supported",
    "rebase": "Could not change the backing file to 'disk.raw': Operation not supported",
    "rebase -u": "Could not change the backing file to 'disk.raw': Operation not supported",
    "rebase -c": "Compression not supported for this file format",
    "commit": "Image does not have a backing file",
    "snapshot": "can list internal snapshots, but not create them",
    "write into": "writing to an image of the format 'toy' is not supported",
    "make": "Format driver 'toy' does not support image creation",
    "convert to": "Format driver 'toy' does not support image creation",
    "copy to": "Format driver 'toy' does not support image creation",
    "measure": "Format driver 'toy' does not support image creation",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_it_is_refused(toy, change):
    before = toy.read_bytes()
    done = cowherd_img(*CHANGES[change])
    assert (done.code, REASONS[change] in done.err) == (1, True), done.err
    assert toy.read_bytes() == before
    assert not Path("new.toy").exists()


def test_what_an_overlay_holds_is_not_committed_into_it(overlay, toy):
    with open_disk(overlay, writable=True) as disk:
        disk.write(0, b"!")
    base, top = toy.read_bytes(), overlay.read_bytes()
    done = cowherd_img("commit", "over.qcow2")
    assert done.code == 1
    assert "disk.toy: writing to an image of the format 'toy' is not supported" in done.err
    for strategy in ("preserve", "fork"):
        with pytest.raises(UnsupportedFeature, match="merging into an image of the format 'toy'"):
            merge(overlay, strategy=strategy)
    assert (toy.read_bytes(), overlay.read_bytes()) == (base, top)
    assert {path.name for path in toy.parent.iterdir()} == {"disk.raw", "disk.toy", "over.qcow2"}


def test_it_has_no_place_for_a_binding(toy):
    assert guard(["bind", "disk.toy"]) == 2


def test_the_public_functions_refuse_it_too(toy):
    with pytest.raises(UnsupportedFeature, match="writing to an image"):
        cowherd.open(toy, format="toy", writable=True)
    with pytest.raises(cowherd.CheckNotSupported):
        cowherd.check(toy)
    with pytest.raises(InvalidRequest, match="does not support image creation"):
        cowherd.create("new.toy", KIB, format="toy")
    with pytest.raises(InvalidRequest, match="does not support image creation"):
        cowherd.convert("disk.raw", "new.toy", target_format="toy")


def test_what_is_no_such_image_is_not_opened_as_one(toy):
    with pytest.raises(ImageFormatError, match="no toy image"):
        open_disk("disk.raw", format="toy")


def test_what_a_layer_does_not_say_is_refused(toy):
    """Also for those who have got at the layer itself."""
    with Toy(HostFile.open(toy, lock=None)) as layer:
        for change in (
            lambda: layer.write(0, memoryview(b"x"), None),
            lambda: layer.write_compressed(0, memoryview(bytes(64 * KIB)), None),
            lambda: layer.zero(0, 1, None, unmap=True),
            lambda: layer.discard(0, 1, None),
            lambda: layer.resize(KIB, None, 0),
            lambda: layer.preallocate(0, KIB, reserve=False),
            layer.deallocate_all,
            lambda: layer.set_backing(None),
            lambda: layer.require_room_for(None),
            lambda: layer.set_extension(1, b""),
        ):
            with pytest.raises(InvalidRequest, match=r"^a toy image "):
                change()
        assert layer.snapshots() == ()
        assert layer.bitmaps() is None
    assert toy.read_bytes()[:8] == b"TOYCHUNK"
