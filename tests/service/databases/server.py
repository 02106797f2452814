"""A database server of the tests' own: in a folder, on a socket there, ended with the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Self, TypeVar

import pytest

from tests.waiting import wait_until

NOBODY = "nobody"
"""Who the servers run as if root starts them: they refuse to be root."""


_Kind = TypeVar("_Kind", bound="Server")


class Server:
    """A server in `folder`; its programs are in `programs`. A context manager that starts it, and ends it."""

    package: ClassVar[str]
    """Debian's package with its programs."""
    driver: ClassVar[str]
    """What Python speaks to it with."""
    ending: ClassVar[signal.Signals]
    """Ends it at once, also if connections are open."""

    def __init__(self, folder: Path, programs: Path):
        self.folder, self.programs, self.data = folder, programs, folder / "data"
        other = pwd.getpwnam(NOBODY) if os.geteuid() == 0 else None
        self._identity = {} if other is None else {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}
        self.superuser = (other or pwd.getpwuid(os.geteuid())).pw_name
        if other is not None:
            os.chown(folder, other.pw_uid, other.pw_gid)

    def __enter__(self) -> Self:
        self.make()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @classmethod
    def find_programs(cls) -> Path | None:
        """Returns where the server's programs are, None if it is not installed."""
        raise NotImplementedError

    def make(self) -> None:
        """Makes its data, with the user `superuser`, who needs no password."""
        raise NotImplementedError

    def command(self) -> Sequence[object]:
        """Returns the words that run it."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Tells whether it takes connections."""
        raise NotImplementedError

    def start(self) -> None:
        """Starts it over the data that it has, and waits until it answers. It does not outlive this process."""
        wrapped = ["setpriv", "--pdeathsig", self.ending.name.removeprefix("SIG"), *map(str, self.command())]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(wrapped, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, **self._identity)
        try:
            wait_until(lambda: self._lives() and self.answers())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends it, and with it all connections."""
        self.process.send_signal(self.ending)
        try:
            self.process.wait(60)
        finally:
            self.process.kill()

    def run(self, program: str, *arguments: object) -> None:
        """Runs one of its programs to its end, as its user."""
        command = [self.programs / program, *arguments]
        done = subprocess.run(command, cwd=self.folder, check=False, capture_output=True, text=True, **self._identity)
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    def _lives(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text()
        return True


@contextmanager
def started(kind: type[_Kind]) -> Iterator[_Kind]:
    """Gives a server that runs. Where its programs or its driver are missing it skips the test; in CI it fails it."""
    programs, missing = kind.find_programs(), []
    if programs is None:
        missing.append(f"Debian's package {kind.package}; 'make databases' installs it where it may")
    if find_spec(kind.driver) is None:
        missing.append(f"Python's package {kind.driver}")
    if missing:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"not installed: {', and '.join(missing)}")
    assert programs is not None
    # Not below pytest's own folder, which other users may not enter; and the name of a socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="cowherd-db-"))
    try:
        with kind(folder, programs) as server:
            yield server
    finally:
        shutil.rmtree(folder)
