"""cowherd-img measure beside qemu-img measure."""

from __future__ import annotations

import json

import pytest

from tests.cli.img.both import cowherd_img, same
from tests.cli.img.gallery import READABLE

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.mark.parametrize("name", READABLE)
def test_an_image_is_measured_as_by_qemu_img(in_gallery, name):
    same("measure", name)
    same("measure", "-O", "qcow2", name)


@pytest.mark.parametrize(
    "options",
    [
        "",
        "cluster_size=512",
        "cluster_size=2M,refcount_bits=64",
        "extended_l2=on",
        "compat=0.10",
        "preallocation=metadata",
        "preallocation=full",
        "size=3G",
    ],
)
@pytest.mark.parametrize("size", ["0", "1", "1G", "1.5G"])
def test_a_size_is_measured_as_by_qemu_img(empty, options, size):
    same("measure", "-O", "qcow2", *(["-o", options] if options else []), "--size", size)


def test_the_json_is_that_of_qemu_img(in_gallery):
    assert json.loads(same("measure", "--output=json", "-O", "qcow2", "bitmaps.qcow2").out)["required"] > 0
    same("measure", "--output=json", "--size", "10M")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-x"],
        ["--size", "5M", "plain.qcow2"],
        ["a", "b"],
        ["-f", "raw"],
        ["--size", "foo"],
        ["-O", "foo", "--size", "1M"],
        ["-O", "bochs", "--size", "1M"],
        ["-O", "qcow2", "-o", "bogus=1", "--size", "1M"],
        ["-O", "qcow2", "-o", "cluster_size=3", "--size", "1M"],
        ["--output", "xx", "--size", "1M"],
        ["-l", "nothere", "plain.qcow2"],
        ["nothere"],
    ],
    ids=" ".join,
)
def test_what_can_not_be_measured_is_complained_about_as_by_qemu_img(in_gallery, arguments):
    assert same("measure", *arguments).code == 1


def test_snapshots_are_refused_by_name(in_gallery):
    outcome = cowherd_img("measure", "-l", "first", "snapshots.qcow2")
    assert outcome.code == 1
    assert "does not read internal snapshots" in outcome.err
