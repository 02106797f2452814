"""The watch as root: real programs write, and it names them, the blocks and the overlays that are hit."""

from __future__ import annotations

import os
import shutil

import pytest

import cowherd
from cowherd.live.fanotify import Fanotify
from tests.herd.qemu_herd import BLOCK, noise, qemu_img
from tests.herd.watch.watcher import unwaited, watching
from tests.storage.hosts import running

VERDICTS = {"torn.qcow2": "torn", "fresh.qcow2": "synchronised", "shielded.qcow2": "intact"}


@pytest.fixture(autouse=True)
def permitted():
    """Skips where this process may not use fanotify."""
    try:
        Fanotify().close()
    except OSError as error:
        pytest.skip(f"fanotify: {error}")


def who(event) -> list[tuple[int, str]]:
    return [(process["pid"], process["command"]) for process in event["processes"]]


def verdicts(event) -> dict[str, str]:
    return {os.path.basename(overlay["path"]): overlay["verdict"] for overlay in event["overlays"]}


def test_dd_into_a_base_is_named_with_the_blocks_and_the_overlays(raw, tmp_path):
    (tmp_path / "new").write_bytes(noise(2 * BLOCK, seed=5))
    raw.chmod(0o644)
    with (
        watching(raw.parent) as watch,
        unwaited("dd", f"if={tmp_path / 'new'}", f"of={raw}", "conv=notrunc", "bs=64k", "seek=10") as pid,
    ):
        written = watch.wait_for("written")
        drifted = watch.wait_for("drifted")
    assert who(written) == who(drifted) == [(pid, "dd")]
    assert (written["level"], written["dependents"]) == ("warning", [str(raw.parent / "web.qcow2")])
    assert (drifted["level"], drifted["blocks"], drifted["changed"]) == ("error", 2, [[10 * BLOCK, 2 * BLOCK]])
    assert verdicts(drifted) == {"web.qcow2": "synchronised"}


def test_a_write_by_qemu_is_named_with_its_arguments_while_it_runs(base):
    with watching(base.parent) as watch, running("qemu-io", "-f", "qcow2", base, until="qemu-io> ") as qemu:
        qemu.stdin.write(b"write -P 1 2M 64k\nflush\n")
        qemu.stdin.flush()
        written = watch.wait_for("written")
    assert who(written) == [(qemu.pid, "qemu-io")]
    assert written["processes"][0]["command_line"].startswith("qemu-io -f qcow2")
    assert written["processes"][0]["user"] == "root"


def test_a_write_by_qemu_hits_each_overlay_as_impact_says(base):
    with watching(base.parent) as watch, unwaited("qemu-io", "-f", "qcow2", "-c", "write -P 1 2M 64k", base):
        drifted = watch.wait_for("drifted")
    assert (drifted["changed"], verdicts(drifted)) == ([[32 * BLOCK, BLOCK]], VERDICTS)


@pytest.mark.qemu("qemu-system-x86_64")
def test_a_machine_that_writes_into_the_base_is_named_by_its_domain(base):
    machine = ("qemu-system-x86_64", "-name", "guest=web,debug-threads=on", "-S", "-nodefaults", "-display", "none")
    disk = ("-monitor", "stdio", "-blockdev", f"qcow2,node-name=d,file.driver=file,file.filename={base}")
    with watching(base.parent) as watch, running(*machine, *disk, until="(qemu) ") as qemu:
        qemu.stdin.write(b'qemu-io d "write -P 1 2M 64k"\nqemu-io d "flush"\n')
        qemu.stdin.flush()
        (process,) = watch.wait_for("written")["processes"]
        drifted = watch.wait_for("drifted")
    assert (process["pid"], process["command"], process["domain"]) == (qemu.pid, "qemu-system-x86_64", "web")
    assert (drifted["changed"], verdicts(drifted)) == ([[32 * BLOCK, BLOCK]], VERDICTS)


def test_an_overlay_that_a_machine_runs_on_is_judged_all_the_same_and_the_machine_named(raw):
    overlay = raw.parent / "web.qcow2"
    with watching(raw.parent) as watch, running("qemu-io", "-f", "qcow2", overlay, until="qemu-io> ") as machine:
        raw.write_bytes(raw.read_bytes()[:-1] + b"!")
        (hit,) = watch.wait_for("drifted")["overlays"]
    assert (hit["path"], hit["verdict"], hit["open_in"]) == (str(overlay), "synchronised", [machine.pid])


def test_a_commit_into_the_base_is_named(base):
    with watching(base.parent) as watch, unwaited("qemu-img", "commit", "-q", "-f", "qcow2", base.parent / "torn.qcow2") as pid:
        written = watch.wait_for("written")
        drifted = watch.wait_for("drifted")
    assert who(written) == [(pid, "qemu-img")]
    assert drifted["changed"] == [[0, BLOCK]]
    assert verdicts(drifted)["fresh.qcow2"] == "synchronised"


def test_a_file_moved_over_the_base_is_named_and_compared(base):
    other = base.with_name("other")
    qemu_img("convert", "-f", "qcow2", "-O", "qcow2", base.parent / "torn.qcow2", other)
    with watching(base.parent) as watch, unwaited("mv", other, base) as pid:
        replaced = watch.wait_for("replaced")
        drifted = watch.wait_for("drifted")
    assert who(replaced) == [(pid, "mv")]
    assert drifted["changed"] == [[0, BLOCK]]


def test_the_new_file_is_watched_from_then_on(base):
    other = base.with_name("other")
    shutil.copyfile(base, other)
    with watching(base.parent) as watch, unwaited("mv", other, base):
        watch.wait_for("replaced")
        watch.wait_for("intact")
        with unwaited("qemu-io", "-f", "qcow2", "-c", "write -P 1 2M 64k", base) as pid:
            assert who(watch.wait_for("written")) == [(pid, "qemu-io")]
        watch.wait_for("drifted")


def test_a_base_that_is_cut_off_is_damaged(base):
    with watching(base.parent) as watch, unwaited("truncate", "-s", 65536, base) as pid:
        assert who(watch.wait_for("written")) == [(pid, "truncate")]
        damaged = watch.wait_for("damaged", "drifted")
    assert damaged["level"] == "error"


def test_a_base_that_is_moved_away_leaves_its_overlays_unreadable(base):
    with watching(base.parent) as watch, unwaited("mv", base, base.parents[1] / "elsewhere") as pid:
        removed = watch.wait_for("removed")
        gone = watch.wait_for("removed")
    assert (who(removed), removed["level"]) == ([(pid, "mv")], "warning")
    assert (gone["level"], [os.path.basename(path) for path in gone["dependents"]]) == ("error", sorted(VERDICTS))


def test_a_change_that_is_undone_is_told_as_intact(raw):
    with raw.open("rb") as stream:
        old = stream.read(BLOCK)
    with watching(raw.parent) as watch:
        raw.write_bytes(raw.read_bytes()[:-1] + b"!")
        watch.wait_for("drifted")
        raw.write_bytes(old + raw.read_bytes()[BLOCK:-1] + noise(BLOCK * 48)[-1:])
        assert watch.wait_for("intact")["level"] == "notice"


def test_protection_that_is_taken_away_is_named(raw):
    cowherd.seal(raw, level=cowherd.Protection.READONLY)
    with watching(raw.parent) as watch, unwaited("chmod", "u+w", raw) as pid:
        event = watch.wait_for("unprotected")
    assert who(event) == [(pid, "chmod")]
    assert event["protection"] == "recorded"


def test_a_seal_that_somebody_removes_under_overlays_is_an_alarm(base):
    with watching(base.parent) as watch, unwaited("rm", f"{base}.seal") as pid:
        event = watch.wait_for("unsealed")
    assert (event["level"], who(event)) == ("warning", [(pid, "rm")])


def test_a_seal_that_somebody_scribbles_on_is_damage(base):
    seal = base.with_name("base.qcow2.seal")
    seal.chmod(0o644)
    with watching(base.parent) as watch:
        with seal.open("r+b") as stream:
            stream.seek(60)
            stream.write(b"scribble")
        assert "seal" in watch.wait_for("damaged")["message"]


def test_a_base_that_is_sealed_anew_with_other_content_contradicts_its_overlays(base):
    with watching(base.parent) as watch:
        cowherd.unseal(base, force=True)
        qemu_img("commit", "-q", "-f", "qcow2", base.parent / "torn.qcow2")
        cowherd.seal(base, force=True)
        event = watch.wait_for("contradicted")
    assert event["level"] == "warning"
    assert {os.path.basename(path) for path in event["overlays"]} == set(VERDICTS)


def test_a_file_below_a_sealed_overlay_is_watched_too(base):
    cowherd.unseal(base, force=True)
    golden = base.parent / "torn.qcow2"
    cowherd.seal(golden)
    with watching(base.parent) as watch, unwaited("qemu-io", "-f", "qcow2", "-c", "write -P 1 2M 64k", base) as pid:
        written, drifted = watch.wait_for("written"), watch.wait_for("drifted")
    assert (written["base"], who(written)) == (str(golden), [(pid, "qemu-io")])
    assert drifted["changed"] == [[32 * BLOCK, BLOCK]]


def test_a_change_made_while_nobody_watched_is_found_at_the_start(base):
    with unwaited("qemu-io", "-f", "qcow2", "-c", "write -P 1 2M 64k", base):
        pass
    with watching(base.parent) as watch:
        drifted = watch.wait_for("drifted")
    assert (drifted["blocks"], drifted["processes"]) == (1, [])
