"""cowherd-img rebase beside qemu-img rebase."""

from __future__ import annotations

import pytest

from cowherd.herd.seals.seal import seal
from tests.cli.img.both import cowherd_img, same_change
from tests.snapshots import all_shown, qemu_img, qemu_io

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.mark.parametrize(
    "arguments",
    [
        ["-b", "compressed.qcow2", "-F", "qcow2"],
        ["-b", "holes.raw", "-F", "raw"],
        ["-b", "plain.raw", "-F", "raw"],
        ["-c", "-b", "holes.raw", "-F", "raw"],
        ["-b", "plain.qcow2", "-F", "qcow2"],
        ["-b", ""],
        ["-u", "-b", ""],
        ["-u"],
        ["-u", "-b", "plain.qcow2", "-F", "qcow2"],
        ["-q", "-p", "-f", "qcow2", "-t", "none", "-T", "none", "-U", "-b", ""],
    ],
    ids=" ".join,
)
def test_the_overlay_ends_up_as_qemu_img_leaves_it(shared_gallery, arguments):
    assert same_change(shared_gallery, "rebase", *arguments, "smaller.qcow2", changed=["smaller.qcow2"]).code == 0


def test_a_base_that_is_not_there_is_recorded_in_unsafe_mode(shared_gallery):
    same_change(shared_gallery, "rebase", "-u", "-b", "nothere", "-F", "qcow2", "smaller.qcow2")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["smaller.qcow2"],
        ["-b", "nothere", "-F", "qcow2", "smaller.qcow2"],
        ["-u", "-b", "nothere", "smaller.qcow2"],
        ["-b", "plain.qcow2", "smaller.qcow2"],
        ["-u", "-b", "nothere", "-F", "foo", "smaller.qcow2"],
        ["-u", "-b", "plain.qcow2", "-F", "qcow2", "plain.raw"],
        ["-c", "-u", "-b", "", "plain.raw"],
        ["-t", "foo", "-b", "", "smaller.qcow2"],
        ["-T", "foo", "-b", "", "smaller.qcow2"],
        ["-u", "-b", "", "nothere"],
        ["-b", "", "nothere"],
    ],
    ids=" ".join,
)
def test_what_can_not_be_rebased_is_complained_about_as_by_qemu_img(shared_gallery, arguments):
    assert same_change(shared_gallery, "rebase", *arguments).code == 1


def test_progress_is_shown(own_gallery, monkeypatch):
    monkeypatch.chdir(own_gallery)
    outcome = cowherd_img("rebase", "-p", "-b", "", "smaller.qcow2")
    assert outcome.out.startswith("    (0.00/100%)\r")
    assert outcome.out.endswith("    (100.00/100%)\r\n")


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """The current directory, with a base of ones, and an overlay of it that has overwritten all since its snapshot."""
    monkeypatch.chdir(tmp_path)
    qemu_img("create", "-q", "-f", "qcow2", "base.qcow2", "1M")
    qemu_io("-f", "qcow2", "-c", "write -P 1 0 1M", "base.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "vm.qcow2")
    qemu_img("snapshot", "-c", "before", "vm.qcow2")
    qemu_io("-f", "qcow2", "-c", "write -P 9 0 1M", "vm.qcow2")
    return tmp_path


def test_a_rebase_that_an_internal_snapshot_would_see_is_refused_with_its_name(snapshot):
    before = (snapshot / "vm.qcow2").read_bytes()
    outcome = cowherd_img("rebase", "-b", "", "vm.qcow2")
    assert (outcome.code, outcome.out) == (3, "")
    assert "'before' of vm.qcow2" in outcome.err
    assert (snapshot / "vm.qcow2").read_bytes() == before


def test_break_dependents_gives_up_what_a_snapshot_shows(snapshot):
    assert cowherd_img("rebase", "--break-dependents", "-b", "", "vm.qcow2").code == 0
    assert all_shown(snapshot / "vm.qcow2") == {"before": bytes(1 << 20)}


@pytest.mark.parametrize("sealed", [False, True])
def test_a_base_of_the_same_content_is_no_change_for_a_snapshot(snapshot, sealed):
    qemu_img("convert", "-O", "raw", "base.qcow2", "twin.raw")
    if sealed:
        seal("base.qcow2")
        seal("twin.raw")
    before = all_shown(snapshot / "vm.qcow2")
    assert cowherd_img("rebase", "-b", "twin.raw", "-F", "raw", "vm.qcow2").code == 0
    (snapshot / "base.qcow2").unlink()
    assert all_shown(snapshot / "vm.qcow2") == before


def test_sealed_bases_that_differ_where_a_snapshot_shows_them_are_a_change(snapshot):
    qemu_img("convert", "-O", "raw", "base.qcow2", "other.raw")
    qemu_io("-f", "raw", "-c", "write -P 2 512k 4k", "other.raw")
    seal("base.qcow2")
    seal("other.raw")
    assert cowherd_img("rebase", "-b", "other.raw", "-F", "raw", "vm.qcow2").code == 3
