"""cowherd-img rebase beside qemu-img rebase."""

from __future__ import annotations

import pytest

from tests.cli.img.both import cowherd_img, same_change

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
