"""The file system as another process sees it: its root and its working directory may differ from ours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cowherd.image.backing import has_protocol
from cowherd.live.holders import PROC
from cowherd.live.kernel_holders import Key, key_of
from cowherd.live.machine.drive import MachineUnclear
from cowherd.live.machine.options import parse_json

if TYPE_CHECKING:
    from cowherd.paths import PathName


@dataclass(frozen=True)
class Layer:
    """An image in a chain: its name, and the file that has this name now, None if there is none or it can't be looked at."""

    name: str
    key: Key | None


class View:
    """Looks names up as a process does. `opened` are the paths of files that it has open, as /proc has them."""

    def __init__(self, pid: int, opened: Sequence[str] = ()):
        self._home = f"{PROC}/{pid}"
        self._root = f"{self._home}/root"
        self._top = _led_to(self._root)
        self._opened = tuple(map(self.inside, opened))
        self._directory = self.inside(_led_to(f"{self._home}/cwd"))

    @property
    def directories(self) -> tuple[str, ...]:
        """The directories in which it may have been started, the likeliest first.

        A daemon goes to the root once it has opened its files, and so does a process that changes its root. Where it was before
        stands in its environment, as its shell knew it; else its files may lie there.
        """
        if self._directory != "/":
            return (self._directory,)
        told = self._told_directory()
        return (*dict.fromkeys(["/", *([told] if told else []), *map(os.path.dirname, self._opened)]),)

    def inside(self, path: str) -> str:
        """Returns a path that /proc has as the process calls it: of a process with a root of its own, /proc has ours."""
        apart = self._top == "/" or (path != self._top and not path.startswith(f"{self._top}/"))
        return path if apart else path.removeprefix(self._top) or "/"

    def absolute(self, name: str) -> str:
        """Returns a name that the process uses, or has used when it started, as an absolute path in its view."""
        if os.path.isabs(name) or self._directory != "/":
            return os.path.normpath(os.path.join(self._directory, name))
        ending = "/" + os.path.normpath(name)
        open_now = [path for path in self._opened if path.endswith(ending)]
        tried = (os.path.normpath(os.path.join(directory, name)) for directory in self.directories)
        return next(
            (path for path in (*open_now, *tried) if os.path.exists(self.real(path))), open_now[0] if open_now else ending
        )

    def real(self, path: str) -> str:
        """Returns under which path we reach the file that the process calls `path`, an absolute one.

        A process may have opened its files before it changed its root: what is not in the new one is looked up in ours.
        """
        real = f"{self._root}{path}"
        return path if self._top != "/" and not os.path.exists(real) and os.path.exists(path) else real

    def reached(self, path: PathName) -> str:
        """Returns the same as a name for people: `path` itself if it leads us to the same file."""
        name, real = os.fspath(path), self.real(os.fspath(path))
        try:
            same = os.path.samestat(os.stat(name), os.stat(real))
        except PermissionError:  # this user may not look there: then only our own root is left to try
            return name
        except (OSError, ValueError):
            return real
        return name if same else real

    def key_of(self, path: str) -> Key | None:
        """Returns the key of the file with that absolute path in its view, None if there is none."""
        try:
            return key_of(os.stat(self.real(path)))
        except (OSError, ValueError):
            return None

    def layer(self, name: str) -> Layer:
        """Returns the layer of a name, with its absolute path; a name that is no local file (`nbd:`) has no file."""
        with contextlib.suppress(MachineUnclear):  # whoever answers in QEMU's place may send anything
            if name.startswith("json:"):  # QEMU's name for an image that was opened otherwise than its header says
                name = str(parse_json(name.removeprefix("json:")).get("file.filename", name))
        if has_protocol(name):
            return Layer(name, None)
        path = self.absolute(name)
        return Layer(path, self.key_of(path))

    def _told_directory(self) -> str | None:
        """Returns the working directory in the process's environment, None if it is not told. It may be one of its shell's."""
        with contextlib.suppress(OSError), open(f"{self._home}/environ", "rb") as file:
            words = [word for word in file.read().split(b"\0") if word.startswith(b"PWD=/")]
            return os.fsdecode(words[0][len(b"PWD=") :]) if words else None
        return None


def _led_to(link: str) -> str:
    """Returns where a link of /proc leads. If the process has ended or may not be looked into, relative names lead nowhere."""
    try:
        return os.readlink(link)
    except OSError:
        return "/"
