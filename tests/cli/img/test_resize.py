"""cowherd-img resize beside qemu-img resize."""

from __future__ import annotations

import pytest

from tests.cli.img.both import cowherd_img, same_change

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["smaller.qcow2", "+1M"], "smaller.qcow2"),
        (["-q", "smaller.qcow2", "20M"], "smaller.qcow2"),
        (["--shrink", "smaller.qcow2", "-1M"], "smaller.qcow2"),
        (["--shrink", "smaller.qcow2", "1M"], "smaller.qcow2"),
        (["smaller.qcow2", "--shrink", "--", "-1M"], "smaller.qcow2"),
        (["small.qcow2", "1G"], "small.qcow2"),
        (["--preallocation=metadata", "small.qcow2", "6M"], "small.qcow2"),
        (["--preallocation=falloc", "compressed.qcow2", "6M"], "compressed.qcow2"),
        (["--preall", "full", "compressed.qcow2", "6M"], "compressed.qcow2"),
        (["-f", "raw", "plain.raw", "+1"], "plain.raw"),
        (["-f", "raw", "--shrink", "plain.raw", "100k"], "plain.raw"),
        (["-f", "raw", "--preallocation=full", "plain.raw", "2M"], "plain.raw"),
        (["plain.raw", "2M"], "plain.raw"),
        (["--image-opts", "driver=raw,file.filename=plain.raw", "2M"], "plain.raw"),
    ],
)
def test_the_image_ends_up_as_qemu_img_leaves_it(shared_gallery, arguments, name):
    assert same_change(shared_gallery, "resize", *arguments, changed=[name]).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["smaller.qcow2"],
        ["--shrink"],
        ["smaller.qcow2", "1M", "2M"],
        ["smaller.qcow2", "-1M"],
        ["smaller.qcow2", "1M"],
        ["smaller.qcow2", "foo"],
        ["smaller.qcow2", "+"],
        ["smaller.qcow2", "0"],
        ["smaller.qcow2", "-100M"],
        ["smaller.qcow2", "9E"],
        ["smaller.qcow2", "17E"],
        ["smaller.qcow2", "1.3"],
        ["--preallocation=foo", "smaller.qcow2", "10M"],
        ["--preallocation=full", "smaller.qcow2", "1M"],
        ["--preallocation=metadata", "-f", "raw", "plain.raw", "12M"],
        ["nothere", "1M"],
    ],
    ids=" ".join,
)
def test_what_can_not_be_resized_is_complained_about_as_by_qemu_img(shared_gallery, arguments):
    assert same_change(shared_gallery, "resize", *arguments).code == 1


def test_what_others_stand_on_is_not_resized(own_gallery, monkeypatch):
    monkeypatch.chdir(own_gallery)
    outcome = cowherd_img("resize", "plain.qcow2", "+1M")
    assert (outcome.code, outcome.out) == (3, "")
    assert "overlay.qcow2" in outcome.err
    assert cowherd_img("resize", "--break-dependents", "plain.qcow2", "+1M").code == 0
