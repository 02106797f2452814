from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cowherd.live import libvirt_hook
from cowherd.live.libvirt_hook import Hook, HookForeign, install, place, status, uninstall

XML = b"<domain><name>web</name><devices/></domain>"


@pytest.fixture(autouse=True)
def new_libvirt(monkeypatch):
    monkeypatch.setattr(libvirt_hook, "libvirt_version", lambda: (11, 3, 0))


def call(script: Path, *words: str, xml: bytes = XML) -> subprocess.CompletedProcess[bytes]:
    """Runs the hook as libvirt does: with hardly any environment."""
    environment = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    return subprocess.run([script, *words], input=xml, env=environment, capture_output=True, check=False)


def test_the_script_goes_where_this_libvirt_looks(tmp_path):
    assert place(tmp_path, (6, 5, 0)) == tmp_path / "etc/libvirt/hooks/qemu.d/90-cowherd"
    assert place(tmp_path, (6, 4, 0)) == tmp_path / "etc/libvirt/hooks/qemu"
    assert place(tmp_path, None) == place(tmp_path, (11, 3, 0))


def test_it_runs_without_an_environment_and_lets_a_sound_machine_start(tmp_path):
    done = call(install(Hook(), tmp_path).path, "web", "prepare", "begin", "-")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("words", ["start begin", "restore begin", "migrate begin", "reconnect begin", "release end"])
def test_nothing_but_the_preparation_of_a_start_is_its_business(tmp_path, words):
    """Of these, `reconnect` would even kill a machine that runs, and the output of others would replace the XML."""
    done = call(install(Hook(interpreter="/nowhere"), tmp_path).path, "web", *words.split(), "-")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_check_that_fails_stops_the_start_unless_told_otherwise(tmp_path):
    script = install(Hook(), tmp_path).path
    done = call(script, "web", "prepare", "begin", "-", xml=b"<broken")
    assert done.returncode == 1
    assert b"not valid XML" in done.stderr
    assert b"the check before the start of web failed (exit code 1), so it does not start" in done.stderr
    done = call(install(Hook("warn"), tmp_path).path, "web", "prepare", "begin", "-", xml=b"<broken")
    assert done.returncode == 0
    assert b"it starts unchecked" in done.stderr


@pytest.mark.parametrize(("policy", "code"), [("refuse", 1), ("warn", 0)])
def test_a_python_that_is_gone_counts_as_a_check_that_failed(tmp_path, policy, code):
    done = call(install(Hook(policy, interpreter="/nowhere/python"), tmp_path).path, "web", "prepare", "begin", "-")
    assert done.returncode == code
    assert b"there is no /nowhere/python" in done.stderr


@pytest.mark.parametrize(("policy", "code"), [("refuse", 1), ("warn", 0)])
def test_a_cowherd_that_is_gone_counts_as_a_check_that_failed(tmp_path, policy, code):
    copy = shutil.copytree(Hook().package / "cowherd", tmp_path / "lib" / "cowherd")
    script = install(Hook(policy, package=copy.parent), tmp_path).path
    shutil.rmtree(copy)
    (copy / "cli").mkdir(parents=True)
    (copy / "__init__.py").touch()
    (copy / "cli" / "__init__.py").write_text("raise RuntimeError('half an upgrade')")
    assert call(script, "web", "prepare", "begin", "-").returncode == code


def test_names_of_machines_and_places_may_hold_anything(tmp_path):
    copy = shutil.copytree(Hook().package / "cowherd", tmp_path / "it's a $(touch x) place" / "cowherd")
    script = install(Hook(package=copy.parent), tmp_path).path
    assert call(script, "--help; `touch x` 'é", "prepare", "begin", "-").returncode == 0
    assert not Path("x").exists()


def test_somebody_s_hook_is_never_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(libvirt_hook, "libvirt_version", lambda: (6, 0, 0))
    theirs = tmp_path / "etc/libvirt/hooks/qemu"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(HookForeign, match="hook check"):
        install(Hook(), tmp_path)
    assert uninstall(tmp_path) == ()
    assert theirs.read_text() == "#!/bin/sh\nexit 0\n"


def test_a_dangling_link_in_its_place_is_somebody_s_too(tmp_path):
    path = place(tmp_path, None)
    path.parent.mkdir(parents=True)
    path.symlink_to("elsewhere")
    with pytest.raises(HookForeign):
        install(Hook(), tmp_path)
    assert os.readlink(path) == "elsewhere"


def test_an_older_script_of_its_own_is_replaced(tmp_path):
    first = install(Hook(), tmp_path)
    second = install(Hook("warn", ("--full",)), tmp_path)
    assert (first.replaced, second.replaced) == (False, True)
    assert second.path.read_text() == second.script != first.script
    assert list(second.path.parent.iterdir()) == [second.path]


def test_only_libvirt_s_first_hook_needs_a_reload(tmp_path):
    theirs = tmp_path / "etc/libvirt/hooks/qemu.d/10-theirs"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("#!/bin/sh\n")
    assert install(Hook(), tmp_path, dry_run=True).first
    theirs.chmod(0o755)
    assert not install(Hook(), tmp_path).first


def test_a_dry_run_writes_nothing(tmp_path):
    install(Hook(), tmp_path, dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_uninstalling_removes_only_its_own(tmp_path):
    path = install(Hook(), tmp_path).path
    theirs = path.with_name("10-theirs")
    theirs.write_text("#!/bin/sh\n")
    assert uninstall(tmp_path, dry_run=True) == (path,)
    assert path.exists()
    assert uninstall(tmp_path) == (path,)
    assert list(path.parent.iterdir()) == [theirs]


def test_the_status_says_whether_it_works(tmp_path):
    assert not status(tmp_path).installed
    path = install(Hook("warn"), tmp_path).path
    found = status(tmp_path)
    assert (found.installed, found.on_error, found.problem) == (True, "warn", "")
    path.chmod(0o644)
    assert "not executable" in status(tmp_path).problem


def test_the_status_tells_a_python_or_a_cowherd_that_is_gone(tmp_path):
    install(Hook(interpreter="/nowhere/python"), tmp_path)
    assert "does not run" in status(tmp_path).problem
    install(Hook(package=tmp_path), tmp_path)
    assert status(tmp_path).problem in ("", "its Python does not find cowherd: ModuleNotFoundError: No module named 'cowherd'")


def test_a_python_that_apparmor_forbids_is_told_where_apparmor_is_on(tmp_path):
    profile = tmp_path / "etc/apparmor.d/usr.sbin.libvirtd"
    profile.parent.mkdir(parents=True)
    profile.touch()
    python = tmp_path / "python"
    python.touch()
    assert not any("AppArmor" in note for note in install(Hook(interpreter=str(python)), tmp_path).notes)
    switch = tmp_path / "sys/module/apparmor/parameters/enabled"
    switch.parent.mkdir(parents=True)
    switch.write_text("N\n")
    assert not any("AppArmor" in note for note in install(Hook(interpreter=str(python)), tmp_path).notes)
    switch.write_text("Y\n")
    notes = install(Hook(interpreter=str(python)), tmp_path).notes
    assert any(f"add '{python} PUx,'" in note for note in notes)
    assert not any("AppArmor" in note for note in install(Hook(interpreter="/usr/bin/env"), tmp_path).notes)
