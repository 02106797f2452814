"""cowherd-img dd beside qemu-img dd."""

from __future__ import annotations

import pytest

from tests.cli.img.both import cowherd_img, same_change

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.mark.parametrize(
    "arguments",
    [
        ["if=top.qcow2", "of=new"],
        ["-O", "qcow2", "bs=64k", "if=top.qcow2", "of=new"],
        ["bs=1M", "count=2", "if=plain.qcow2", "of=new"],
        ["-f", "qcow2", "-O", "qcow2", "bs=1M", "count=4", "skip=1", "if=larger.qcow2", "of=new"],
        ["bs=3000", "count=400", "skip=30", "if=plain.qcow2", "of=new"],
        ["bs=1M", "count=1", "skip=1", "if=plain.qcow2", "of=new"],
        ["bs=1M", "skip=100", "if=plain.qcow2", "of=new"],
        ["--image-opts", "if=driver=raw,file.filename=plain.raw", "of=new"],
    ],
    ids=" ".join,
)
def test_the_output_is_that_of_qemu_img(shared_gallery, arguments):
    assert same_change(shared_gallery, "dd", *arguments, changed=["new"]).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["if=plain.qcow2"],
        ["if=plain.qcow2", "of=new", "foo"],
        ["if=plain.qcow2", "of=new", "foo=1"],
        ["if=plain.qcow2", "of=new", "bs=0"],
        ["if=plain.qcow2", "of=new", "bs=3G"],
        ["if=plain.qcow2", "of=new", "count=x"],
        ["if=plain.qcow2", "of=new", "skip=-1"],
        ["if=nothere", "of=new"],
        ["if=plain.qcow2", "of=nothere/new"],
        ["-O", "foo", "if=plain.qcow2", "of=new"],
        ["-O", "bochs", "if=plain.qcow2", "of=new"],
    ],
    ids=" ".join,
)
def test_what_can_not_be_copied_is_complained_about_as_by_qemu_img(shared_gallery, arguments):
    assert same_change(shared_gallery, "dd", *arguments).code == 1


def test_what_others_stand_on_is_not_overwritten(own_gallery, monkeypatch):
    monkeypatch.chdir(own_gallery)
    before = (own_gallery / "plain.qcow2").read_bytes()
    assert cowherd_img("dd", "if=plain.raw", "of=plain.qcow2").code == 3
    assert (own_gallery / "plain.qcow2").read_bytes() == before
