"""cowherd-img snapshot beside qemu-img snapshot."""

from __future__ import annotations

import pytest

from tests.cli.img.both import cowherd_img, same
from tests.cli.img.gallery import READABLE

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.mark.parametrize("name", READABLE)
def test_the_list_is_that_of_qemu_img(in_gallery, name):
    same("snapshot", "-l", name)


def test_dates_are_local_time(in_gallery, monkeypatch):
    import time

    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert "first" in same("snapshot", "-l", "snapshots.qcow2").out
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "arguments", [[], ["-l", "-a", "x", "plain.qcow2"], ["-l", "nothere"], ["plain.qcow2"], ["-q", "-U", "-l", "plain.raw"]]
)
def test_other_arguments_are_taken_alike(in_gallery, arguments):
    same("snapshot", *arguments)


@pytest.mark.parametrize(("option", "action"), [("-a", "apply"), ("-c", "create"), ("-d", "delete")])
def test_changes_are_refused_with_the_reason(in_gallery, option, action):
    outcome = cowherd_img("snapshot", option, "first", "snapshots.qcow2")
    assert (outcome.code, outcome.out) == (1, "")
    assert f"can list internal snapshots, but not {action} them" in outcome.err
