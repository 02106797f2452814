"""cowherd-img commit beside qemu-img commit."""

from __future__ import annotations

import pytest

from tests.cli.img.both import cowherd_img, same_change
from tests.snapshots import all_shown, qemu_img, qemu_io

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


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """The current directory, with an overlay that has written since its snapshot."""
    monkeypatch.chdir(tmp_path)
    qemu_img("create", "-q", "-f", "qcow2", "base.qcow2", "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "vm.qcow2")
    qemu_img("snapshot", "-c", "before\n", "vm.qcow2")
    qemu_io("-f", "qcow2", "-c", "write -P 9 0 1M", "vm.qcow2")
    return tmp_path


@pytest.mark.parametrize("options", [[], ["-d"], ["-b", "base.qcow2"]], ids=str)
def test_a_commit_that_an_internal_snapshot_would_see_is_refused_with_its_name(snapshot, options):
    before = {path: path.read_bytes() for path in snapshot.iterdir()}
    outcome = cowherd_img("commit", *options, "vm.qcow2")
    assert (outcome.code, outcome.out) == (3, "")
    assert r"'before\x0a' of vm.qcow2" in outcome.err
    assert "--break-dependents" in outcome.err
    assert {path: path.read_bytes() for path in snapshot.iterdir()} == before


def test_break_dependents_gives_up_what_a_snapshot_shows(snapshot):
    assert cowherd_img("commit", "--break-dependents", "vm.qcow2").code == 0
    assert all_shown(snapshot / "vm.qcow2") == {"before\n": b"\t" * (1 << 20)}


@pytest.mark.parametrize("version", ["0.10", "1.1"])
def test_an_overlay_whose_snapshots_see_nothing_of_it_ends_up_as_qemu_img_leaves_it(tmp_path, version):
    folder = tmp_path / "images"
    folder.mkdir()
    qemu_img("create", "-q", "-f", "qcow2", folder / "base.qcow2", "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"compat={version}", "-b", "base.qcow2", "-F", "qcow2", folder / "vm.qcow2")
    qemu_io("-f", "qcow2", "-c", "write -P 5 0 256k", folder / "vm.qcow2")
    qemu_img("snapshot", "-c", "before", folder / "vm.qcow2")
    qemu_io("-f", "qcow2", "-c", "write -P 9 64k 64k", folder / "vm.qcow2")
    assert same_change(folder, "commit", "vm.qcow2", changed=["base.qcow2", "vm.qcow2"]).code == 0
    assert all_shown(tmp_path / "images-ours/vm.qcow2") == all_shown(folder / "vm.qcow2")
