"""cowherd-img create beside qemu-img create."""

from __future__ import annotations

import pytest

from tests.cli.img.both import cowherd_img, same, same_change

pytestmark = pytest.mark.qemu("qemu-io")

OPTIONS = (
    "cluster_size=4k",
    "compat=0.10",
    "compat=v3,extended_l2=on,cluster_size=128k,lazy_refcounts=on,refcount_bits=1,compression_type=zstd",
    "preallocation=metadata",
    "preallocation=falloc",
    "preallocation=off",
    "lazy_refcounts",
    "nolazy_refcounts",
    "lazy_refcounts=yes",
    "refcount_bits=0x20",
    "cluster_size=128k,cluster_size=512",
)


@pytest.mark.parametrize("size", ["1M", "1.5M", "1000", "0", "0x1000", " 5", "+5", "1.00001k", ".5k", "1.k"])
def test_sizes_are_read_as_by_qemu_img(shared_gallery, size):
    assert same_change(shared_gallery, "create", "-f", "qcow2", "new", size, changed=["new"]).code == 0


@pytest.mark.parametrize("options", OPTIONS)
def test_options_are_announced_and_kept_as_by_qemu_img(shared_gallery, options):
    same_change(shared_gallery, "create", "-f", "qcow2", "-o", options, "new", "2M", changed=["new"])
    _same_facts(shared_gallery, "new")


def _same_facts(folder, name):
    """What the two tools made must look alike, apart from how large the files are."""
    import json

    from tests.cli.img.both import reference

    facts = [
        json.loads(reference("info", "--output=json", folder.parent / f"{folder.name}-{who}" / name).out)
        for who in ("theirs", "ours")
    ]
    for document in facts:
        for key in ("actual-size", "children", "filename", "full-backing-filename"):
            document.pop(key, None)
    assert facts[0] == facts[1]


@pytest.mark.parametrize("options", [[], ["-o", "preallocation=full"], ["-o", "size=3M"]])
def test_a_raw_image_is_announced_as_by_qemu_img(shared_gallery, options):
    size = [] if "size=3M" in options else ["1000"]
    same_change(shared_gallery, "create", *options, "new", *size, changed=["new"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["-b", "plain.qcow2", "-F", "qcow2", "new"],
        ["-b", "plain.qcow2", "-F", "qcow2", "new", "9M"],
        ["-b", "plain.qcow2", "-F", "raw", "new"],
        ["-b", "overlay.qcow2", "-F", "qcow2", "in/new"],
        ["-o", "backing_file=plain.qcow2,backing_fmt=qcow2", "new"],
        ["-o", "backing_file=nothere", "-b", "plain.qcow2", "-F", "qcow2", "new"],
        ["-b", "file:plain.qcow2", "-F", "qcow2", "new"],
        ["-b", 'json:{"driver":"qcow2","file.filename":"plain.qcow2"}', "-F", "qcow2", "new"],
        ["-u", "-b", "with space,comma'quote", "-F", "raw", "new", "1M"],
        ["-u", "-b", "foo:bar", "-F", "raw", "new", "1M"],
        ["-q", "-b", "plain.qcow2", "-F", "qcow2", "new"],
        ["-o", "extended_l2=on,preallocation=metadata", "-b", "plain.qcow2", "-F", "qcow2", "new"],
    ],
)
def test_an_overlay_is_announced_as_by_qemu_img(shared_gallery, arguments):
    same_change(shared_gallery, "create", "-f", "qcow2", *arguments)


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_options_are_listed_as_by_qemu_img(empty, format):
    same("create", "-f", format, "-o", "help")
    same("create", "-f", format, "-o", "cluster_size=4k,help", "new")
    same("create", "-f", format, "-o", "?", "new")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-f", "qcow2", "new"],
        ["new", "1", "2"],
        ["new", "1x"],
        ["new", "--", "-1"],
        ["new", "9E"],
        ["-f", "foo", "new", "1M"],
        ["-f", "bochs", "new", "1M"],
        ["-f", "qcow2", "-o", "bogus=1", "new", "1M"],
        ["-f", "qcow2", "-o", ",x", "new", "1M"],
        ["-f", "qcow2", "-o", "cluster_size=1000", "new", "1M"],
        ["-f", "qcow2", "-o", "cluster_size=x", "new", "1M"],
        ["-f", "qcow2", "-o", "cluster_size=16E", "new", "1M"],
        ["-f", "qcow2", "-o", "refcount_bits=3", "new", "1M"],
        ["-f", "qcow2", "-o", "refcount_bits=-1", "new", "1M"],
        ["-f", "qcow2", "-o", "refcount_bits=x", "new", "1M"],
        ["-f", "qcow2", "-o", "preallocation=x", "new", "1M"],
        ["-f", "qcow2", "-o", "compat=0.9", "new", "1M"],
        ["-f", "qcow2", "-o", "compression_type=lzo", "new", "1M"],
        ["-f", "qcow2", "-o", "lazy_refcounts=maybe", "new", "1M"],
        ["-f", "qcow2", "-o", "compat=0.10,lazy_refcounts=on", "new", "1M"],
        ["-f", "qcow2", "-o", "compat=0.10,refcount_bits=8", "new", "1M"],
        ["-f", "qcow2", "-o", "compat=0.10,extended_l2=on", "new", "1M"],
        ["-f", "qcow2", "-o", "extended_l2=on,cluster_size=4k", "new", "1M"],
        ["-f", "qcow2", "-o", "size=1M", "new", "1M"],
        ["-f", "raw", "-o", "preallocation=metadata", "new", "1M"],
        ["-f", "raw", "-o", "preallocation=x", "new", "1M"],
        ["-f", "raw", "new", "7E"],
        ["-f", "raw", "-b", "plain.qcow2", "new", "1M"],
        ["-f", "raw", "-F", "qcow2", "new", "1M"],
        ["-f", "qcow2", "-F", "qcow2", "new", "1M"],
        ["-f", "qcow2", "-b", "nothere", "-F", "qcow2", "new"],
        ["-f", "qcow2", "-b", "./nothere", "-F", "qcow2", "new"],
        ["-f", "qcow2", "-b", "nothere", "new"],
        ["-f", "qcow2", "-b", "plain.qcow2", "new"],
        ["-f", "qcow2", "-b", "plain.raw", "new"],
        ["-f", "qcow2", "-u", "-b", "plain.qcow2", "new"],
        ["-f", "qcow2", "-u", "-b", "plain.qcow2", "-F", "qcow2", "new"],
        ["-f", "qcow2", "-b", "", "new", "1M"],
        ["-f", "qcow2", "-b", "new", "-F", "qcow2", "new", "1M"],
        ["-f", "qcow2", "-b", "plain.qcow2", "-F", "foo", "new", "1M"],
        ["-f", "qcow2", "-u", "-b", "plain.qcow2", "-F", "foo", "new", "1M"],
        ["-f", "qcow2", "-b", "foo:bar", "-F", "raw", "new", "1M"],
        ["-f", "qcow2", "-o", "preallocation=full", "-b", "plain.qcow2", "-F", "qcow2", "new"],
        ["nothere/new", "1M"],
        ["-f", "qcow2", "nothere/new", "1M"],
        ["in", "1M"],
        ["", "1M"],
        ["foo:new", "1M"],
    ],
    ids=" ".join,
)
def test_what_can_not_be_made_is_complained_about_as_by_qemu_img(shared_gallery, arguments):
    assert same_change(shared_gallery, "create", *arguments).code == 1


@pytest.mark.parametrize("option", ["encryption=on", "encrypt.format=luks", "data_file=x", "data_file_raw=on"])
def test_features_that_are_not_there_are_refused_by_name(empty, option):
    outcome = cowherd_img("create", "-f", "qcow2", "-o", option, "new", "1M")
    assert outcome.code == 1
    assert "not supported" in outcome.err
    assert not (empty / "new").exists()


def test_a_format_that_only_qemu_has_is_refused_by_name(empty):
    outcome = cowherd_img("create", "-f", "vmdk", "new", "1M")
    assert (outcome.code, outcome.err) == (1, "cowherd-img: new: Format 'vmdk' is not supported; use qemu-img for this image\n")


def test_a_hint_without_effect_is_told(empty):
    outcome = cowherd_img("create", "-q", "-f", "qcow2", "-o", "nocow=on", "new", "1M")
    assert (outcome.code, outcome.out) == (0, "")
    assert "'nocow' has no effect" in outcome.err


def test_what_others_stand_on_is_not_made_anew(own_gallery, monkeypatch):
    monkeypatch.chdir(own_gallery)
    before = (own_gallery / "plain.qcow2").read_bytes()
    outcome = cowherd_img("create", "-f", "qcow2", "plain.qcow2", "1M")
    assert outcome.code == 3
    assert "overlay.qcow2" in outcome.err
    assert (own_gallery / "plain.qcow2").read_bytes() == before
    assert cowherd_img("create", "-f", "qcow2", "--break-dependents", "plain.qcow2", "1M").code == 0
