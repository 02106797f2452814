"""cowherd-img info beside qemu-img info."""

from __future__ import annotations

import json

import pytest

from tests.cli.img.both import cowherd_img, same
from tests.cli.img.gallery import OVERLAYS, QCOW2, RAW

pytestmark = pytest.mark.qemu("qemu-io")

EVERY = QCOW2 + OVERLAYS + RAW


@pytest.mark.parametrize("name", EVERY)
def test_the_text_is_that_of_qemu_img(in_gallery, name):
    assert same("info", name).code == 0


@pytest.mark.parametrize("name", EVERY)
def test_the_json_is_that_of_qemu_img(in_gallery, name):
    assert json.loads(same("info", "--output=json", name).out)["filename"] == name


@pytest.mark.parametrize("name", EVERY)
def test_the_chain_is_that_of_qemu_img(in_gallery, name):
    same("info", "--backing-chain", name)
    same("info", "--backing-chain", "--output=json", name)


@pytest.mark.parametrize(
    "spelling",
    ["./plain.qcow2", "in/../plain.qcow2", "file:plain.qcow2", 'json:{"driver":"qcow2","file.filename":"plain.qcow2"}'],
)
def test_an_image_may_be_spelled_in_many_ways(in_gallery, spelling):
    same("info", spelling)
    same("info", "--output=json", spelling)


def test_an_absolute_path_is_printed_as_it_is(in_gallery):
    same("info", "--backing-chain", in_gallery / "in/overlay.qcow2")


def test_image_opts_describe_an_image(in_gallery):
    same("info", "--image-opts", "driver=qcow2,file.filename=plain.qcow2")
    same("info", "--image-opts", "driver=raw,file.driver=file,file.filename=plain.qcow2")


@pytest.mark.parametrize("text", ["plain.qcow2", "driver=foo,file.filename=x", "foo=1", "driver=qcow2,file=x"])
def test_image_opts_that_name_no_image_are_complained_about(in_gallery, text):
    assert same("info", "--image-opts", text).code == 1


def test_a_format_overrides_the_first_bytes(in_gallery):
    same("info", "-f", "raw", "plain.qcow2")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothere"],
        ["-f", "qcow2", "plain.raw"],
        ["-f", "foo", "plain.raw"],
        ["in"],
        [""],
        ["foo:bar"],
        ["json:{}"],
        ['json:{"driver":"raw"}'],
        ["--image-opts", "-f", "qcow2", "plain.qcow2"],
        ["-b", "nothere"],
    ],
)
def test_what_can_not_be_opened_is_named_as_qemu_img_does(in_gallery, arguments):
    assert same("info", *arguments).code == 1


def test_a_chain_with_a_missing_base_names_the_base(own_gallery, qemu_img, monkeypatch):
    monkeypatch.chdir(own_gallery)
    (own_gallery / "plain.qcow2").unlink()
    assert "plain.qcow2" in same("info", "--backing-chain", "overlay.qcow2").err
    assert same("info", "overlay.qcow2").code == 0


def test_a_chain_that_bites_its_tail_is_refused(own_gallery, qemu_img, monkeypatch):
    monkeypatch.chdir(own_gallery)
    qemu_img("rebase", "-u", "-b", "overlay.qcow2", "-F", "qcow2", "overlay.qcow2")
    assert "infinite loop" in same("info", "--backing-chain", "overlay.qcow2").err


def test_a_name_that_is_no_text_is_printed_byte_by_byte(own_gallery, monkeypatch):
    monkeypatch.chdir(own_gallery)
    odd = 'a"b\t\x7f\udcff\N{GRINNING FACE}.qcow2'
    (own_gallery / "plain.qcow2").rename(odd)
    same("info", odd)
    same("info", "--output=json", odd)


def test_the_dirty_and_the_corrupt_bit_are_told(own_gallery, monkeypatch):
    monkeypatch.chdir(own_gallery)
    with (own_gallery / "lazy.qcow2").open("r+b") as file:
        file.seek(79)
        file.write(b"\x03")
    same("info", "lazy.qcow2")
    same("info", "--output=json", "lazy.qcow2")


def test_bitmaps_in_use_are_told(own_gallery, qemu_img, monkeypatch):
    monkeypatch.chdir(own_gallery)
    data = bytearray((own_gallery / "bitmaps.qcow2").read_bytes())
    place = data.rindex(b"auto\0\0\0\0") - 24
    data[place + 15] |= 1
    (own_gallery / "bitmaps.qcow2").write_bytes(data)
    assert "in-use" in same("info", "bitmaps.qcow2").out


def test_control_characters_in_stored_names_are_escaped_on_a_terminal(own_gallery, qemu_img, monkeypatch):
    import sys

    from cowherd.cli.img import output

    class Terminal:
        def __init__(self):
            self.written = ""

        def isatty(self):
            return True

        def write(self, text):
            self.written += text

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    output.out("backing file: \x1b]0;owned\x07\n")
    assert terminal.written == "backing file: \\x1b]0;owned\\x07\n"


def test_force_share_looks_at_an_image_that_is_being_written(own_gallery, monkeypatch):
    from cowherd.storage.hostfile import HostFile
    from cowherd.storage.locks import WRITE

    monkeypatch.chdir(own_gallery)
    with HostFile.open("plain.qcow2", writable=True, lock=WRITE):
        refused = cowherd_img("info", "plain.qcow2")
        assert refused.code == 1
        assert 'Failed to get shared "write" lock\nIs another process using the image [plain.qcow2]?' in refused.err
        assert cowherd_img("info", "-U", "plain.qcow2").code == 0
