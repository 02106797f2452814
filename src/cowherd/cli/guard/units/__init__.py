"""The units that let systemd run the watch: as they lie here for packages, or written with this program's own name in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.storage.atomic import write_atomically

SERVICE = ("cowherd-serve.service", "cowherd-serve.socket")
"""The units of `serve`."""
NAMES = ("cowherd-watch.service", "cowherd-verify.service", "cowherd-verify.timer")
_PROGRAM = "/usr/bin/cowherd"
_DIRECTORIES = "Environment=COWHERD_DIRECTORIES=/var/lib/libvirt/images"


def install(target: Path, directories: Sequence[str], program: Sequence[str], names: Sequence[str] = NAMES) -> list[Path]:
    """Writes units into the directory `target`, for these directories and this program; returns what was written.

    Raises `InvalidRequest` for names that a unit can't hold, `HostFileError`. Units of the same names are replaced: what an
    administrator adds belongs into /etc/default/cowherd, or `systemctl edit`.
    """
    if not target.is_dir():
        raise HostFileError(target, "write units to", NotADirectoryError(20, "there is no such directory"))
    watched = " ".join(map(_word, directories))
    run = " ".join(f'"{_escaped(word).replace("$", "$$")}"' for word in program)
    written = []
    for name in names:
        text = files(__package__).joinpath(name).read_text("utf-8")
        text = text.replace(_DIRECTORIES, f'Environment="COWHERD_DIRECTORIES={_escaped(watched)}"')
        write_atomically(target / name, text.replace(_PROGRAM, run).encode(), mode=0o644)
        written.append(target / name)
    return written


def this_program() -> list[str]:
    """Returns the command that runs this program again, by its full name."""
    program = Path(sys.argv[0])
    if program.name == "cowherd" and program.exists():
        return [os.path.abspath(program)]
    return [sys.executable, "-m", "cowherd.cli.guard.main"]


def _word(name: str) -> str:
    """Returns a name as one word of a variable that systemd splits into words, minding quotes (systemd.service(5))."""
    if "'" in name or not name.isprintable():
        raise InvalidRequest(f"{name!a} can't be written into a unit; set COWHERD_DIRECTORIES in /etc/default/cowherd")
    return f"'{name}'" if any(character in ' "\\' for character in name) else name


def _escaped(text: str) -> str:
    """Returns a text as it stands between double quotes in a unit (systemd.syntax(7)), where % begins a specifier."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
