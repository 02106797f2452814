from __future__ import annotations

import struct

import pytest

from cowherd.errors import ImageFormatError, ImageInUse
from cowherd.formats.qcow2.header import Extension, Header
from cowherd.herd.records.binding import EXTENSION_TYPE, Binding, binding_in, read_binding, write_binding
from cowherd.herd.records.faults import BindingImpossible
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, qemu_img, write

BINDING = Binding(bytes(range(32)), bytes(range(16)), 7)


@pytest.fixture
def overlay(tmp_path):
    make_base(tmp_path / "base.qcow2", noise(1 << 20))
    overlay = make_overlay(tmp_path / "overlay.qcow2", "base.qcow2")
    write(overlay, "write -P 3 0 64k")
    write_binding(overlay, BINDING)
    return overlay


def header_with(data: bytes) -> Header:
    return Header(3, 16, 0, 0, 0, 0, 0, extensions=(Extension(EXTENSION_TYPE, data),))


@pytest.mark.qemu("qemu-io")
def test_a_binding_reads_back_and_changes_nothing_else(overlay):
    assert read_binding(overlay) == BINDING
    qemu_img("check", "-q", overlay)
    assert content(overlay)[: 1 << 17] == b"\3" * 65536 + content(overlay.with_name("base.qcow2"))[65536 : 1 << 17]


@pytest.mark.qemu("qemu-io")
@pytest.mark.parametrize(
    "command",
    [
        ["rebase", "-u", "-b", "base.qcow2", "-F", "qcow2", "overlay.qcow2"],
        ["snapshot", "-c", "one", "overlay.qcow2"],
        ["resize", "-q", "overlay.qcow2", "2M"],
        ["amend", "-o", "compat=0.10", "overlay.qcow2"],
        ["bitmap", "--add", "overlay.qcow2", "bits"],
        ["commit", "-q", "overlay.qcow2"],
    ],
    ids=lambda command: command[0],
)
def test_a_binding_outlives_what_qemu_does_to_an_overlay(overlay, command, monkeypatch):
    monkeypatch.chdir(overlay.parent)
    qemu_img(*command)
    assert read_binding(overlay) == BINDING


@pytest.mark.qemu("qemu-io")
def test_a_binding_can_be_removed(overlay):
    write_binding(overlay, None)
    assert read_binding(overlay) is None


@pytest.mark.qemu("qemu-io")
def test_a_version_2_image_takes_a_binding(tmp_path):
    make_base(tmp_path / "base.qcow2", noise(65536))
    overlay = make_overlay(tmp_path / "old.qcow2", "base.qcow2", "-o", "compat=0.10")
    write_binding(overlay, BINDING)
    assert read_binding(overlay) == BINDING
    assert content(overlay) == content(tmp_path / "base.qcow2")


@pytest.mark.qemu("qemu-io")
def test_an_image_in_use_is_not_bound(overlay):
    with HostFile.open(overlay, writable=True, lock=WRITE), pytest.raises(ImageInUse):
        write_binding(overlay, None)


@pytest.mark.qemu("qemu-io")
def test_a_header_without_room_is_left_alone(tmp_path):
    name = "b" * 200 + ".qcow2"
    make_base(tmp_path / name, noise(65536))
    overlay = make_overlay(tmp_path / "tiny.qcow2", name, "-o", "cluster_size=512")
    write_binding(overlay, BINDING)  # 112 + 72 + 16 + 206 bytes fit in 512
    longer = make_overlay(tmp_path / "tinier.qcow2", f"{'./' * 60}{name}", "-o", "cluster_size=512")
    before = longer.read_bytes()
    with pytest.raises(BindingImpossible, match="tinier"):
        write_binding(longer, BINDING)
    assert longer.read_bytes() == before


def test_the_data_is_as_documented(tmp_path):
    packed = BINDING.pack()
    assert packed == struct.pack(">HHIQ", 1, 0, 65536, 7) + BINDING.seal_id + BINDING.content_digest
    assert binding_in(header_with(packed), tmp_path) == BINDING


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\1", BINDING.pack()[:-1], BINDING.pack() + b"\0", b"\0\1" + bytes(62)])
def test_a_damaged_binding_is_refused(tmp_path, data):
    with pytest.raises(ImageFormatError, match="binding"):
        binding_in(header_with(data), tmp_path)


def test_a_newer_binding_is_named(tmp_path):
    with pytest.raises(ImageFormatError, match="newer cowherd"):
        binding_in(header_with(b"\0\2" + BINDING.pack()[2:]), tmp_path)


def test_two_bindings_that_differ_are_refused_and_two_that_are_the_same_are_one(tmp_path):
    one, other = (Extension(EXTENSION_TYPE, binding.pack()) for binding in (BINDING, BINDING._replace(generation=8)))
    header = header_with(BINDING.pack())
    assert binding_in(header._replace(extensions=(one, one)), tmp_path) == BINDING
    for both in ((one, other), (other, one)):
        with pytest.raises(ImageFormatError, match="two bindings"):
            binding_in(header._replace(extensions=both), tmp_path)
