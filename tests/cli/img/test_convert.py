"""cowherd-img convert beside qemu-img convert."""

from __future__ import annotations

import pytest

from tests.cli.img.both import cowherd_img, same, same_change
from tests.cli.img.gallery import READABLE

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.mark.parametrize("name", READABLE)
def test_every_image_becomes_the_raw_image_that_qemu_img_makes(shared_gallery, name):
    assert same_change(shared_gallery, "convert", name, "new", changed=["new"]).code == 0


@pytest.mark.parametrize("name", READABLE)
def test_every_image_becomes_a_qcow2_image_of_its_content(shared_gallery, name):
    assert same_change(shared_gallery, "convert", "-O", "qcow2", name, "new", changed=["new"]).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "-O", "qcow2"],
        ["-c", "-W", "-m", "4", "-O", "qcow2", "-o", "compression_type=zstd,cluster_size=4k"],
        ["-O", "qcow2", "-o", "extended_l2=on", "-o", "refcount_bits=1"],
        ["-O", "qcow2", "-o", "compat=0.10"],
        ["-O", "qcow2", "-o", "preallocation=metadata"],
        ["-O", "qcow2", "-o", "preallocation=falloc"],
        ["-S", "0", "-O", "qcow2"],
        ["-S", "0"],
        ["-S", "64k"],
        ["-C"],
        ["-q", "-p", "-f", "qcow2", "-T", "none", "-t", "writeback"],
        ["-U", "-r", "100M"],
        ["--bitmaps", "-O", "qcow2"],
        ["-O", "qcow2", "-B", "plain.qcow2", "-F", "qcow2"],
        ["-O", "qcow2", "-o", "backing_file=plain.qcow2,backing_fmt=qcow2"],
    ],
    ids=" ".join,
)
def test_options_give_the_same_content(shared_gallery, arguments):
    assert same_change(shared_gallery, "convert", *arguments, "overlay.qcow2", "new", changed=["new"]).code == 0


def test_several_sources_are_joined(shared_gallery):
    assert same_change(shared_gallery, "convert", "plain.qcow2", "odd.raw", "plain.raw", "new", changed=["new"]).code == 0


def test_an_existing_image_is_written_over(shared_gallery):
    same_change(shared_gallery, "convert", "-n", "plain.raw", "-O", "qcow2", "wide.qcow2", changed=["wide.qcow2"])
    same_change(shared_gallery, "convert", "-n", "odd.raw", "-O", "raw", "plain.raw", changed=["plain.raw"])
    same_change(shared_gallery, "convert", "-n", "--target-image-opts", "plain.raw", "driver=qcow2,file.filename=wide.qcow2")


def test_image_opts_describe_the_sources(shared_gallery):
    same_change(shared_gallery, "convert", "--image-opts", "driver=qcow2,file.filename=plain.qcow2", "new", changed=["new"])


def test_options_are_listed_as_by_qemu_img(empty):
    same("convert", "-o", "help", "-O", "qcow2")
    same("convert", "-o", "help", "a", "b")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["plain.qcow2"],
        ["nothere", "new"],
        ["-O", "foo", "plain.qcow2", "new"],
        ["-O", "bochs", "plain.qcow2", "new"],
        ["-f", "qcow2", "plain.raw", "new"],
        ["-c", "plain.qcow2", "new"],
        ["-S", "3", "plain.qcow2", "new"],
        ["-S", "17M", "plain.qcow2", "new"],
        ["-m", "17", "plain.qcow2", "new"],
        ["-m", "x", "plain.qcow2", "new"],
        ["-r", "x", "plain.qcow2", "new"],
        ["-n", "plain.qcow2", "nothere"],
        ["-n", "-o", "foo", "plain.qcow2", "new"],
        ["-n", "plain.qcow2", "odd.raw"],
        ["-n", "-c", "-O", "raw", "odd.raw", "plain.raw"],
        ["--target-is-zero", "plain.qcow2", "new"],
        ["--target-image-opts", "plain.qcow2", "new"],
        ["-C", "-c", "plain.qcow2", "new"],
        ["-C", "-S", "4k", "plain.qcow2", "new"],
        ["-C", "--salvage", "plain.qcow2", "new"],
        ["--skip-broken-bitmaps", "plain.qcow2", "new"],
        ["--bitmaps", "plain.qcow2", "new"],
        ["--bitmaps", "-O", "qcow2", "plain.qcow2", "odd.raw", "new"],
        ["-O", "qcow2", "-B", "plain.qcow2", "plain.qcow2", "new"],
        ["-O", "qcow2", "-B", "nothere", "-F", "qcow2", "plain.qcow2", "new"],
        ["-O", "qcow2", "-B", "plain.qcow2", "-F", "qcow2", "odd.raw", "plain.qcow2", "new"],
        ["-O", "qcow2", "-F", "qcow2", "plain.qcow2", "new"],
        ["-O", "raw", "-B", "plain.qcow2", "-F", "qcow2", "plain.qcow2", "new"],
        ["-O", "qcow2", "-o", "cluster_size=3", "plain.qcow2", "new"],
        ["-O", "qcow2", "-o", "bogus=1", "plain.qcow2", "new"],
        ["-O", "qcow2", "-c", "-o", "preallocation=full", "plain.qcow2", "new"],
        ["-O", "qcow2", "plain.qcow2", "nothere/new"],
        ["plain.qcow2", "nothere/new"],
        ["compressed.qcow2", "compressed.qcow2"],
        ["-l", "nothere", "plain.qcow2", "new"],
        ["-T", "foo", "plain.qcow2", "new"],
        ["-t", "foo", "plain.qcow2", "new"],
    ],
    ids=" ".join,
)
def test_what_can_not_be_converted_is_complained_about_as_by_qemu_img(shared_gallery, arguments):
    assert same_change(shared_gallery, "convert", *arguments).code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--salvage", "plain.qcow2", "new"], "--salvage is not supported"),
        (["--bitmaps", "-O", "qcow2", "bitmaps.qcow2", "new"], "Copying bitmaps is not supported"),
        (["-l", "first", "snapshots.qcow2", "new"], "does not read internal snapshots"),
        (["-l", "snapshot.name=first", "snapshots.qcow2", "new"], "does not read internal snapshots"),
        (["--object", "secret,id=x", "plain.qcow2", "new"], "--object is not supported"),
        (["nbd://localhost/x", "new"], "Protocol 'nbd' is not supported"),
        (["-f", "vmdk", "plain.qcow2", "new"], "Driver 'vmdk' is not supported"),
        (["data-file.qcow2", "new"], "external data file is not supported"),
    ],
)
def test_what_only_qemu_img_can_is_refused_by_name(own_gallery, monkeypatch, arguments, said):
    monkeypatch.chdir(own_gallery)
    outcome = cowherd_img("convert", *arguments)
    assert outcome.code == 1
    assert said in outcome.err
    assert not (own_gallery / "new").exists()


def test_progress_ends_at_100_percent(own_gallery, monkeypatch):
    monkeypatch.chdir(own_gallery)
    outcome = cowherd_img("convert", "-p", "plain.qcow2", "new")
    assert outcome.out.startswith("    (0.00/100%)\r")
    assert outcome.out.endswith("    (100.00/100%)\r\n")


@pytest.mark.parametrize("more", [[], ["-n", "-O", "qcow2"]])
def test_what_others_stand_on_is_not_written_over(own_gallery, monkeypatch, more):
    monkeypatch.chdir(own_gallery)
    before = (own_gallery / "plain.qcow2").read_bytes()
    assert cowherd_img("convert", *more, "odd.raw", "plain.qcow2").code == 3
    assert (own_gallery / "plain.qcow2").read_bytes() == before
    assert cowherd_img("convert", *more, "--break-dependents", "odd.raw", "plain.qcow2").code == 0
