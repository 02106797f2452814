"""A PostgreSQL server of the tests' own."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.service.databases.server import Server

# What is lost with the machine needs no care, and no test opens more connections than these.
_SETTINGS = ("listen_addresses=", "fsync=off", "full_page_writes=off", "shared_buffers=32MB", "max_connections=200", "jit=off")


class PostgreSQL(Server):
    """A server; its databases are made as copies of others, which is quick."""

    package, driver, ending = "postgresql", "psycopg", signal.SIGINT

    @classmethod
    def find_programs(cls) -> Path | None:
        """Returns where the newest is: Debian keeps them out of PATH."""
        found = shutil.which("initdb")
        if found:
            return Path(found).resolve().parent
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        return versions[-1].parent if versions else None

    def make(self) -> None:
        """Makes its data, in UTF-8; it sorts as people do, which the service must not mind. Needs PostgreSQL 15."""
        sorting = ("--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en")
        self.run("initdb", "-D", self.data, "-U", self.superuser, "-A", "trust", "-E", "UTF8", *sorting, "--no-sync")

    def command(self) -> Sequence[object]:
        """Returns the words that run it."""
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        return [self.programs / "postgres", "-D", self.data, "-k", self.folder, *settings]

    def answers(self) -> bool:
        """Tells whether it takes connections."""
        asked = [self.programs / "pg_isready", "-q", "-h", self.folder]
        return subprocess.run(asked, check=False, capture_output=True).returncode == 0

    def create(self, name: str, template: str = "template0", *options: str) -> str:
        """Makes a database that begins as a copy of another one; returns its address."""
        self.run("createdb", "-h", self.folder, "-U", self.superuser, "-T", template, *options, name)
        return self.url(name)

    def url(self, name: str) -> str:
        """Returns the address of a database."""
        return f"postgresql://{self.superuser}@/{name}?host={self.folder}"

    def ask(self, name: str, statement: str) -> str:
        """Returns what psql prints of a statement."""
        words = [self.programs / "psql", "-XAtq", "-h", self.folder, "-U", self.superuser, "-c", statement, name]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
