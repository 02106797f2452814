"""A MariaDB server of the tests' own."""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import NullPool, create_engine, text

from tests.service.databases.server import Server


class MariaDB(Server):
    """A server without a network."""

    package, driver, ending = "mariadb-server-core mariadb-client-core", "pymysql", signal.SIGTERM

    @classmethod
    def find_programs(cls) -> Path | None:
        """Returns where it is; the program that makes its data is on PATH."""
        found = shutil.which("mariadbd")
        helpers = ("mariadb-install-db", "my_print_defaults")  # which the first one calls
        return Path(found).parent if found and all(map(shutil.which, helpers)) else None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "socket"

    def make(self) -> None:
        """Makes its data; root of the database needs no password."""
        program = shutil.which("mariadb-install-db") or ""
        self.run(program, "--no-defaults", f"--datadir={self.data}", "--auth-root-authentication-method=normal", "--skip-test-db")

    def command(self) -> Sequence[object]:
        """Returns the words that run it."""
        quick = ("--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0", "--skip-networking", "--skip-log-bin")
        places = (f"--datadir={self.data}", f"--socket={self.socket}", f"--pid-file={self.folder / 'pid'}")
        return [self.programs / "mariadbd", "--no-defaults", *places, *quick]

    def answers(self) -> bool:
        """Tells whether it takes connections."""
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(str(self.socket)) == 0

    def create(self, name: str, character_set: str = "utf8mb4") -> str:
        """Makes a database; returns its address, as Glance's configuration has it."""
        self.execute("mysql", f"CREATE DATABASE {name} CHARACTER SET {character_set}")
        return self.url(name)

    def url(self, name: str) -> str:
        """Returns the address of a database."""
        return f"mysql+pymysql://root@localhost/{name}?unix_socket={self.socket}&charset=utf8mb4"

    def execute(self, name: str, statement: str) -> None:
        """Has a statement executed."""
        engine = create_engine(self.url(name), poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text(statement))
