"""The hook in a real libvirtd, which starts real QEMU machines with virsh, or does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cowherd.herd.merge.merge import merge
from cowherd.herd.overlays.clone import clone
from cowherd.herd.seals.seal import seal
from cowherd.live.libvirt_hook import Hook, install, uninstall
from tests.herd.merge.herds import killed_at
from tests.herd.qemu_herd import make_base, make_overlay, noise, write
from tests.live import libvirt


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    libvirt.require()
    with libvirt.libvirtd(tmp_path_factory.mktemp("libvirt")) as running:
        yield running


@pytest.fixture
def guarded(daemon):
    """The daemon with the hook, which is told of it as an administrator would."""
    install(Hook(), daemon.root)
    daemon.reload()
    yield daemon
    for name in daemon.running():
        daemon.virsh("destroy", name)


@pytest.fixture
def overlay(tmp_path):
    """An overlay with another beside it, on a sealed base."""
    seal(make_base(tmp_path / "base", noise(1 << 20)))
    for name in ("o", "other"):
        clone(tmp_path / "base", tmp_path / name, seal_base=False)
    return tmp_path / "o"


def drift(overlay: Path) -> None:
    with (overlay.parent / "base").open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"drift")


def test_a_machine_on_an_intact_chain_starts_and_starts_again(guarded, overlay):
    before = os.stat(overlay.parent / "base")
    guarded.define("intact", overlay)
    guarded.virsh("start", "intact")
    assert guarded.running() == ["intact"]
    after = os.stat(overlay.parent / "base")
    assert after.st_gid == libvirt.GROUP != before.st_gid, "libvirt gives QEMU the base, which moves its ctime"
    assert after.st_ctime_ns != before.st_ctime_ns
    guarded.virsh("destroy", "intact")
    guarded.virsh("start", "intact")


def test_after_drift_the_start_is_refused_and_virsh_shows_why(guarded, overlay):
    guarded.define("drifted", overlay)
    drift(overlay)
    said = guarded.virsh("start", "drifted", code=1)
    assert (
        f"cowherd: refusing to start drifted: vda: touched: {overlay.parent / 'base'}: it was written to since it was sealed"
        in said
    )
    assert "cowherd verify --full --refresh" in said
    assert guarded.running() == []


def define_with(guarded, name: str, disk: Path, more: str, devices: str = "") -> None:
    """Defines a machine with one disk, more elements, and more devices."""
    guarded.define(name, disk)
    namespace = "xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'"
    xml = (guarded.scratch / f"{name}.xml").read_text().replace("<domain ", f"<domain {namespace} ")
    xml = xml.replace("</domain>", f"{more}</domain>").replace("</devices>", f"{devices}</devices>")
    (guarded.scratch / f"{name}.xml").write_text(xml)
    guarded.virsh("undefine", name)
    guarded.virsh("define", guarded.scratch / f"{name}.xml")


def test_a_drive_that_is_handed_to_qemu_itself_is_judged_too(guarded, overlay, tmp_path):
    plain = make_base(tmp_path / "plain", noise(1 << 16))
    words = ("-drive", "if=none,id=x", "-set", f"drive.x.file={overlay}", "-pidfile", "relative.pid")
    arguments = "".join(f"<q:arg value='{word}'/>" for word in words)
    define_with(guarded, "handed", plain, f"<q:commandline>{arguments}</q:commandline>")
    guarded.virsh("start", "handed")
    pid = (guarded.scratch / "run/qemu/handed.pid").read_text()
    assert os.readlink(f"/proc/{int(pid)}/cwd") == "/", "where relative names in arguments start"
    guarded.virsh("destroy", "handed")
    drift(overlay)
    assert f"-set drive.x.file={overlay}: touched" in guarded.virsh("start", "handed", code=1)


def test_memory_in_a_sealed_file_is_refused(guarded, overlay, tmp_path):
    plain = make_base(tmp_path / "plain", noise(1 << 16))
    nvdimm = (
        f"<memory model='nvdimm'><source><path>{overlay.parent}/base</path></source>"
        "<target><size unit='MiB'>1</size><node>0</node></target></memory>"
    )
    cpu = "<maxMemory slots='2' unit='MiB'>64</maxMemory><cpu><numa><cell id='0' cpus='0' memory='16' unit='MiB'/></numa></cpu>"
    define_with(guarded, "memory", plain, cpu, nvdimm)
    assert "memory nvdimm: base-sealed" in guarded.virsh("start", "memory", code=1)


def test_a_missing_base_is_refused(guarded, overlay):
    guarded.define("missing", overlay)
    base = overlay.parent / "base"
    base.unlink()
    assert f"vda: missing-base: {overlay}: {base}: No such file or directory" in guarded.virsh("start", "missing", code=1)


def test_an_interrupted_merge_is_refused(guarded, overlay):
    guarded.define("merging", overlay)
    write(overlay, "write -P 1 0 64k")
    assert killed_at(6, lambda: merge(overlay, strategy="preserve"))
    said = guarded.virsh("start", "merging", code=1)
    assert "merge-interrupted" in said
    assert "cowherd recover" in said


def test_a_machine_without_seals_starts(guarded, tmp_path):
    make_base(tmp_path / "b", noise(1 << 16))
    guarded.define("plain", make_overlay(tmp_path / "o", "b"))
    guarded.virsh("start", "plain")
    assert guarded.running() == ["plain"]


def test_a_saved_machine_is_not_restored_onto_a_changed_base(guarded, overlay, tmp_path):
    guarded.define("saved", overlay)
    guarded.virsh("start", "saved")
    guarded.virsh("save", "saved", tmp_path / "memory")
    drift(overlay)
    assert "refusing to start saved: vda: touched" in guarded.virsh("restore", tmp_path / "memory", code=1)
    assert guarded.running() == []


def test_a_machine_is_not_taken_over_from_another_host_onto_a_changed_base(guarded, overlay, tmp_path):
    guarded.define("migrating", overlay)
    guarded.virsh("start", "migrating")
    drift(overlay)
    (tmp_path / "elsewhere").mkdir()
    with libvirt.libvirtd(tmp_path / "elsewhere") as other:
        install(Hook(), other.root)
        other.reload()
        words = ["--live", "--unsafe", "migrating", other.uri, "--migrateuri", f"unix://{tmp_path}/memory"]
        assert "refusing to start migrating: vda: touched" in guarded.virsh("migrate", *words, code=1)
        assert (guarded.running(), other.running()) == (["migrating"], [])


def test_a_sealed_base_is_not_given_to_a_guest(guarded, overlay):
    guarded.define("careless", overlay.parent / "base")
    assert "base-sealed" in guarded.virsh("start", "careless", code=1)


def test_a_daemon_looks_for_its_first_hook_only_when_it_is_told_to_reload(daemon, overlay):
    uninstall(daemon.root)
    daemon.reload()
    drift(overlay)
    assert install(Hook(), daemon.root).first
    daemon.define("early", overlay)
    daemon.virsh("start", "early")
    daemon.virsh("destroy", "early")
    daemon.reload()
    assert "refusing to start early" in daemon.virsh("start", "early", code=1)
