"""scripts/install-qemu, on pretended machines: programs of its own choosing stand for apt, sudo and QEMU."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "install-qemu"
HOST_PROGRAMS = ["sh", "sed", "awk", "tr", "tee", "rm", "cat", "touch", "chmod"]
PEERS = ["mke2fs", "debugfs", "e2fsck", "mkfs.fat", "fsck.fat", "mcopy", "mkfs.ntfs", "sfdisk", "lvm", "mkfs.xfs", "mkfs.btrfs"]
OTHER_TOOLS = ["qemu-io", "qemu-nbd", "qemu-storage-daemon", *PEERS, "btrfs", "libvirtd", "virsh", "strace"]
OLD, NEW = "1:7.2+dfsg-7+deb12u18", "1:10.0.2+ds-2~bpo12+1"
MIRROR = "mirror.invalid/debian/"


class Machine:
    """A folder of pretended programs that is the script's whole PATH, and a log of what they were asked."""

    def __init__(self, folder: Path):
        self.folder, self.programs, self.sources = folder, folder / "bin", folder / "sources.list.d"
        self.log, self.os_release = folder / "log", folder / "os-release"
        self.programs.mkdir()
        self.sources.mkdir()
        self.log.touch()
        self.os_release.write_text("ID=debian\nVERSION_CODENAME=bookworm\n")
        for name in HOST_PROGRAMS:
            (self.programs / name).symlink_to(shutil.which(name, path="/usr/bin:/bin"))

    def add(self, name: str, script: str) -> None:
        """Adds a pretended program."""
        path = self.programs / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{script}\n')
        path.chmod(0o755)

    def add_qemu(self, version: str) -> None:
        """Adds QEMU's tools of one version, and all others."""
        for name in ["qemu-img", "qemu-system-x86_64", *OTHER_TOOLS]:
            self.add(name, f'echo "{name} version {version} (Debian)"')

    def add_apt(self, release: str, backports: str | None, *, mirror: str = MIRROR) -> None:
        """Adds apt whose release has one version of QEMU, and whose backports another as soon as they are a source."""
        known = f"cat {self.sources}/* 2>/dev/null | sed -n s/-backports/-backports/p"
        row = f'echo "qemu-utils | {backports} | {mirror} bookworm-backports/main amd64 Packages"' if backports else ":"
        self.add("apt-cache", f'case $1 in policy) echo "  Candidate: {release}";; madison) [ -z "$({known})" ] || {row};; esac')
        self.add("apt-config", f"echo \"folder='{self.sources}/'\"")
        self.add(
            "apt-get",
            f'case " $* " in *" indextargets "*) echo "Packages|Other|main|bookworm|bookworm|other.invalid"\n'
            f'[ -z "{mirror}" ] || echo "Packages|Debian|main|bookworm|bookworm|{mirror}";;\n'
            f'*" install "*) for name in qemu-img qemu-system-x86_64 {" ".join(OTHER_TOOLS)}; do\n'
            f"echo 'echo version 10.0.2' > {self.programs}/$name; chmod +x {self.programs}/$name; done;; esac",
        )

    def run(self, user: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs the script as the user with this id."""
        self.add("id", f"echo {user}")
        environment = {"PATH": str(self.programs), "OS_RELEASE": str(self.os_release)}
        return subprocess.run([self.programs / "sh", SCRIPT], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    if any((Path(folder) / "qemu-img").exists() for folder in ("/usr/sbin", "/sbin")):
        pytest.skip("this machine has its programs and its administrator's programs in one folder")
    return Machine(tmp_path)


def test_does_nothing_where_all_is_there(machine):
    machine.add_qemu("10.0.2")
    assert machine.run().returncode == 0
    assert "apt" not in machine.log.read_text()


def test_says_what_is_missing_where_there_is_no_apt(machine):
    machine.add_qemu("7.2.0")
    done = machine.run()
    assert done.returncode == 1
    assert "qemu-img is version 7.2.0, 10 or newer is needed" in done.stderr
    assert "apt-get install -t bookworm-backports" in done.stderr


def test_changes_nothing_for_a_user_who_may_not_install(machine):
    machine.add_apt(OLD, NEW)
    machine.add("sudo", "exit 1")
    done = machine.run(user=1000)
    assert done.returncode == 1
    assert "only root may install them" in done.stderr
    assert "apt-get" not in machine.log.read_text()


def test_installs_the_release_s_own_where_it_is_new_enough(machine):
    machine.add_apt(NEW, None)
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert " -t " not in machine.log.read_text()
    assert list(machine.sources.iterdir()) == []


def test_adds_backports_of_the_machine_s_own_mirror(machine):
    machine.add_apt(OLD, NEW)
    done = machine.run()
    assert done.returncode == 0, done.stderr
    (source,) = machine.sources.iterdir()
    assert f"URIs: {MIRROR}\nSuites: bookworm-backports\n" in source.read_text()
    assert "-t bookworm-backports" in machine.log.read_text()


def test_uses_backports_that_are_a_source_already(machine):
    machine.add_apt(OLD, NEW)
    (machine.sources / "mine.list").write_text("deb mirror.invalid bookworm-backports main\n")
    assert machine.run().returncode == 0
    assert [path.name for path in machine.sources.iterdir()] == ["mine.list"]


def test_takes_a_source_away_again_that_brings_nothing(machine):
    machine.add_apt(OLD, None)
    done = machine.run()
    assert done.returncode == 1
    assert "the source was removed again" in done.stderr
    assert list(machine.sources.iterdir()) == []


def test_says_so_where_no_mirror_is_configured(machine):
    machine.add_apt(OLD, None, mirror="")
    done = machine.run()
    assert done.returncode == 1
    assert "names no Debian mirror for bookworm" in done.stderr


def test_adds_no_debian_source_to_another_distribution(machine):
    machine.add_apt(OLD, None)
    machine.os_release.write_text("ID=ubuntu\nVERSION_CODENAME=noble\n")
    done = machine.run()
    assert done.returncode == 1
    assert "This release's own QEMU is too old" in done.stderr
    assert list(machine.sources.iterdir()) == []
