"""The watch without the privilege for fanotify: it says so, and whoever has the file open is a hint."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.herd.qemu_herd import BLOCK, noise
from tests.herd.watch.watcher import unwaited, watching
from tests.storage.hosts import require_root, running

WITHOUT_PRIVILEGE = ("setpriv", "--bounding-set", "-all,+dac_override", "--inh-caps", "-all")


@pytest.fixture(autouse=True)
def droppable():
    """Skips where privileges can't be dropped."""
    require_root()
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")


def test_it_says_that_it_can_t_name_who_writes(raw):
    with watching(raw.parent, prefix=WITHOUT_PRIVILEGE) as watch:
        pass
    assert "the kernel names no writers" in watch.events[0]["message"]
    assert "fanotify: Operation not permitted" in watch.events[0]["message"]


def test_a_writer_that_has_the_base_open_is_named_as_a_hint(base):
    command = (*WITHOUT_PRIVILEGE, "qemu-io", "-f", "qcow2", base)
    with watching(base.parent, prefix=WITHOUT_PRIVILEGE) as watch, running(*command, until="qemu-io> ") as qemu:
        qemu.stdin.write(b"write -P 1 2M 64k\nflush\n")
        qemu.stdin.flush()
        written = watch.wait_for("written")
        qemu.stdin.write(b"quit\n")
        qemu.stdin.flush()
        drifted = watch.wait_for("drifted")
    assert [(process["pid"], process["hint"]) for process in written["processes"]] == [(qemu.pid, True)]
    assert drifted["changed"] == [[32 * BLOCK, BLOCK]]


def test_a_writer_that_is_gone_is_not_named_and_its_change_found(raw, tmp_path):
    (tmp_path / "new").write_bytes(noise(BLOCK, seed=5))
    with watching(raw.parent, "--inotify") as watch:
        with unwaited("dd", f"if={tmp_path / 'new'}", f"of={raw}", "conv=notrunc", "bs=64k", "seek=3"):
            pass
        drifted = watch.wait_for("drifted")
    assert drifted["changed"] == [[3 * BLOCK, BLOCK]]
    assert [overlay["verdict"] for overlay in drifted["overlays"]] == ["synchronised"]


def test_a_file_that_takes_the_base_s_name_is_noticed_and_watched(raw):
    other = raw.with_name("other")
    other.write_bytes(noise(BLOCK * 48, seed=9))
    with watching(raw.parent, "--inotify") as watch:
        os.replace(other, raw)
        assert watch.wait_for("drifted")["blocks"] == 48
        raw.write_bytes(noise(BLOCK * 48))
        watch.wait_for("intact")
