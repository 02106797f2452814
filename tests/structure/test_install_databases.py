"""scripts/install-databases, on pretended machines: programs of its own choosing stand for apt, sudo and the servers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "install-databases"
HOST_PROGRAMS = ["sh", "ls", "tr", "tee", "rm", "mkdir", "touch", "chmod"]
INSTALLS = """\
case " $* " in *" install "*)
    ls {clusters} >> {log}
    for name in initdb mariadbd mariadb-install-db my_print_defaults; do touch {programs}/$name; chmod +x {programs}/$name; done;;
esac"""


class Machine:
    """A folder of pretended programs that is the script's whole PATH, and a log of what they were asked."""

    def __init__(self, folder: Path):
        self.folder, self.programs, self.log, self.clusters = folder, folder / "bin", folder / "log", folder / "createcluster.d"
        self.programs.mkdir()
        self.log.touch()
        for name in HOST_PROGRAMS:
            (self.programs / name).symlink_to(shutil.which(name, path="/usr/bin:/bin"))

    def add(self, *names: str, script: str = "") -> None:
        """Adds pretended programs."""
        for name in names:
            path = self.programs / name
            path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{script}\n')
            path.chmod(0o755)

    def add_apt(self, installs: str = INSTALLS) -> None:
        self.add("apt-get", script=installs.format(clusters=self.clusters, log=self.log, programs=self.programs))

    def run(self, user: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs the script as the user with this id."""
        self.add("id", script=f"echo {user}")
        environment = {"PATH": str(self.programs), "CLUSTERS": str(self.clusters), "POSTGRESQL": str(self.folder / "none")}
        return subprocess.run([self.programs / "sh", SCRIPT], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    if any((Path(folder) / "sh").exists() for folder in ("/usr/sbin", "/sbin")):
        pytest.skip("this machine has its programs and its administrator's programs in one folder")
    return Machine(tmp_path)


def test_does_nothing_where_all_is_there(machine):
    machine.add("initdb", "mariadbd", "mariadb-install-db", "my_print_defaults")
    assert machine.run().returncode == 0
    assert "apt" not in machine.log.read_text()


def test_says_what_is_missing_where_there_is_no_apt(machine):
    done = machine.run()
    assert done.returncode == 1
    assert "apt-get install postgresql mariadb-server-core mariadb-client-core" in done.stderr


def test_changes_nothing_for_a_user_who_may_not_install(machine):
    machine.add_apt()
    machine.add("sudo", script="exit 1")
    done = machine.run(user=1000)
    assert done.returncode == 1
    assert "only root may install them" in done.stderr
    assert "apt-get" not in machine.log.read_text()


def test_installs_what_is_missing_and_has_no_server_made(machine):
    machine.add_apt()
    done = machine.run()
    assert done.returncode == 0, done.stderr
    said = machine.log.read_text()
    assert "--no-install-recommends" in said
    assert said.count("cowherd-tests.conf") == 1
    assert list(machine.clusters.iterdir()) == []


def test_what_can_not_be_installed_is_told(machine):
    machine.add_apt("exit 100")
    done = machine.run()
    assert done.returncode == 1
    assert "could not install them" in done.stderr
    assert list(machine.clusters.iterdir()) == []


def test_a_server_without_what_its_installer_calls_is_not_all(machine):
    """As Debian's mariadb-server-core alone: mariadb-install-db ends with "Could not find my_print_defaults" then."""
    machine.add("initdb", "mariadbd", "mariadb-install-db")
    machine.add_apt()
    assert machine.run().returncode == 0
    assert "mariadb-client-core" in machine.log.read_text()
