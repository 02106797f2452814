"""cowherd-img commit beside qemu-img commit."""

from __future__ import annotations

import pytest

from tests.cli.img.both import cowherd_img, same_change

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.fixture
def lone_chain(own_gallery):
    """A chain whose bases have no other dependents, so that nothing stands against a commit."""
    for name in ("larger", "smaller", "on-raw", "json", "file"):
        (own_gallery / f"{name}.qcow2").unlink()
    (own_gallery / "in/overlay.qcow2").unlink()
    return own_gallery


@pytest.mark.parametrize(
    "options",
    [[], ["-d"], ["-q", "-p"], ["-f", "qcow2", "-t", "none"], ["-r", "10M"], ["-b", "overlay.qcow2"], ["-b", "plain.qcow2"]],
)
def test_the_images_end_up_as_qemu_img_leaves_them(lone_chain, options):
    changed = ["top.qcow2", "overlay.qcow2", "plain.qcow2"]
    if "plain.qcow2" in options:
        changed = ["plain.qcow2"]  # what lies between is useless afterwards
    assert same_change(lone_chain, "commit", *options, "top.qcow2", changed=changed).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["plain.qcow2"],
        ["nothere"],
        ["-f", "raw", "plain.raw"],
        ["plain.raw"],
        ["-b", "nothere", "top.qcow2"],
        ["-t", "foo", "top.qcow2"],
        ["-r", "x", "top.qcow2"],
        ["a", "b"],
    ],
    ids=" ".join,
)
def test_what_can_not_be_committed_is_complained_about_as_by_qemu_img(shared_gallery, arguments):
    assert same_change(shared_gallery, "commit", *arguments).code == 1


def test_a_commit_into_a_base_with_other_dependents_is_refused(own_gallery, monkeypatch):
    monkeypatch.chdir(own_gallery)
    before = (own_gallery / "plain.qcow2").read_bytes()
    outcome = cowherd_img("commit", "overlay.qcow2")
    assert (outcome.code, outcome.out) == (3, "")
    assert "--break-dependents" in outcome.err
    assert (own_gallery / "plain.qcow2").read_bytes() == before


def test_break_dependents_commits_all_the_same(own_gallery, monkeypatch):
    monkeypatch.chdir(own_gallery)
    outcome = cowherd_img("commit", "--break-dependents", "overlay.qcow2")
    assert (outcome.code, outcome.out) == (0, "Image committed.\n")


def test_progress_is_shown(lone_chain, monkeypatch):
    monkeypatch.chdir(lone_chain)
    outcome = cowherd_img("commit", "-p", "top.qcow2")
    assert outcome.out.startswith("    (0.00/100%)\r")
    assert outcome.out.endswith("    (100.00/100%)\r\nImage committed.\n")
