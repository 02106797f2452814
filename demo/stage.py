"""What the reader sees: prose, commands as typed with their real output, and claims that are checked."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = Path(sys.executable).parent
"""Where this environment keeps its commands, cowherd and cowherd-img among them."""

_WIDTH = 100
_SYSTEM_FOLDERS = ("/usr/sbin", "/sbin")
_BOLD, _CYAN, _GREEN, _PLAIN = "\x1b[1m", "\x1b[36m", "\x1b[32m", "\x1b[0m"


class StoryBroken(Exception):
    """A claim of the story did not hold, or the machine lacks what the story needs."""


class Stage:
    """Runs commands in one folder and prints them with what they answer. Colours only where a person watches."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.claims = 0
        self._after_command = False
        path = [str(PROGRAMS), os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS]
        self.environment = os.environ | {"PATH": os.pathsep.join(path), "LC_ALL": "C.UTF-8"}
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def chapter(self, title: str) -> None:
        """Begins a chapter."""
        self._line(f"\n{self._in(_BOLD, title)}\n")

    def say(self, *sentences: str) -> None:
        """Prints prose, wrapped."""
        self._line(textwrap.fill(" ".join(sentences), _WIDTH, break_long_words=False, break_on_hyphens=False))

    def run(self, command: str, code: int = 0, *, at_most: int = 12) -> str:
        """Types `command`, prints what it answers (its first `at_most` lines), and returns all of that.

        Raises `StoryBroken` if it ends with another exit code than `code`.
        """
        if not self._after_command:
            print()
        print(f"    {self._in(_CYAN, '$ ' + command)}", flush=True)
        done = self._execute(shlex.split(command), merged=True)
        lines = done.stdout.splitlines()
        shown = lines if len(lines) <= at_most + 1 else [*lines[:at_most], f"(and {len(lines) - at_most} lines more)"]
        for line in shown:
            print(f"    {line}")
        if done.returncode:
            print(f"    (exit code {done.returncode})")
        print(flush=True)
        self._after_command = True
        self._require_code(command, done, code)
        return done.stdout

    def ask(self, *command: str | Path, codes: Sequence[int] = (0,)) -> str:
        """Runs a command that the reader need not see, and returns its standard output. Raises as `run`."""
        done = self._execute(command, merged=False)
        self._require_code(shlex.join(map(str, command)), done, *codes)
        return done.stdout

    def claim(self, holds: bool, statement: str) -> None:
        """Checks what the story says has happened, and prints it. Raises `StoryBroken` if it has not."""
        if not holds:
            raise StoryBroken(f"this does not hold: {statement}")
        self.claims += 1
        indented = textwrap.indent(textwrap.fill(statement, _WIDTH - 4, break_on_hyphens=False), "      ").lstrip()
        self._line(f"{self._in(_GREEN, '  ok')}  {indented}")

    def has(self, program: str) -> bool:
        """Returns whether a program is installed."""
        return shutil.which(program, path=self.environment["PATH"]) is not None

    def _line(self, text: str) -> None:
        self._after_command = False
        print(text, flush=True)

    def _execute(self, command: Sequence[str | Path], *, merged: bool) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )

    @staticmethod
    def _require_code(command: str, done: subprocess.CompletedProcess[str], *codes: int) -> None:
        if done.returncode not in codes:
            said = f":\n{done.stderr.strip()}" if done.stderr else ""
            raise StoryBroken(f"'{command}' ended with exit code {done.returncode}, expected {codes[0]}{said}")

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._coloured else text
