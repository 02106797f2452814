"""A PostgreSQL server of the tests' own: in a folder, on a socket there, ended with the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

USER, SECONDS = "postgres", 20


def _programs() -> Path | None:
    """Where the server's programs are, the newest: Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


PROGRAMS = _programs()
IS_INSTALLED = PROGRAMS is not None and find_spec("psycopg") is not None


class Server:
    """A server; one that root starts runs as the user that PostgreSQL was installed with, as it must not run as root."""

    def __init__(self, folder: Path, programs: Path):
        self.folder, self.programs = folder, programs
        self.user = USER if os.geteuid() == 0 else None
        self.superuser = self.user or pwd.getpwuid(os.geteuid()).pw_name
        if self.user:
            shutil.chown(folder, self.user)

    def __enter__(self) -> Server:
        data = self.folder / "data"
        self._run("initdb", "-D", data, "-U", self.superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        command = [self.programs / "postgres", "-D", data, "-k", self.folder, "-c", "listen_addresses=", "-F"]
        self.log = (self.folder / "log").open("w")
        self.process = subprocess.Popen(command, user=self.user, cwd=self.folder, stdout=self.log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + SECONDS
        while subprocess.run([self.programs / "pg_isready", "-q", "-h", self.folder], check=False).returncode:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.05)
        return self

    def __exit__(self, *_) -> None:
        self.process.send_signal(2)  # ends connections that are open, and does not wait for them
        self.process.wait(SECONDS)
        self.log.close()

    def create(self, name: str, template: str) -> None:
        """Makes a database that begins as a copy of another one."""
        self._run("createdb", "-h", self.folder, "-U", self.superuser, "-T", template, name)

    def url(self, name: str) -> str:
        """The address of a database."""
        return f"postgresql://{self.superuser}@/{name}?host={self.folder}"

    def _run(self, program: str, *arguments: object) -> None:
        command = [self.programs / program, *arguments]
        subprocess.run(command, user=self.user, cwd=self.folder, check=True, capture_output=True, text=True)
