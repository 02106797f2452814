"""The herds that somebody named: in /etc/cowherd/cowherd.toml, in the user's own file, and in COWHERD_HERD.

herds = ["/srv/vms", "/var/lib/libvirt/images"]
"""

from __future__ import annotations

import os

from cowherd.errors import CowherdError, HostFileError, InvalidRequest
from cowherd.paths import as_path
from cowherd.storage.presence import require_directories
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from cowherd.paths import PathName

VARIABLE = "COWHERD_HERD"
"""The environment variable that names further herds, separated by colons."""
CONFIG_VARIABLE = "COWHERD_CONFIG"
"""The environment variable that names the one file to read and write instead of the usual two."""

_SYSTEM = "/etc/cowherd/cowherd.toml"
_KEY = "herds"
_MOST_BYTES = 1 << 20


class ConfigUnclear(CowherdError):
    """A configuration file can't be understood. Attributes: `path`, `problem`."""

    exit_code = 2

    def __init__(self, path: PathName, problem: str):
        self.path, self.problem = as_path(path), problem

    def __str__(self) -> str:
        return f'{printable(self.path)}: {self.problem}; it names herds as in {_KEY} = ["/srv/vms"]'


def herds() -> list[str]:
    """Returns the directories of all herds that are named, absolute and without symbolic links, each once.

    Raises `ConfigUnclear` for a file that makes no sense, `HostFileError` for one that can't be read.
    """
    named = [directory for path in _files() for directory in herds_in(path)]
    named += filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))
    return list(dict.fromkeys(os.path.realpath(directory) for directory in named))


def own_file() -> str:
    """Returns the file that `add_herd` and `remove_herd` change: root's is the system's."""
    return _files()[-1]


def herds_in(path: str) -> list[str]:
    """Returns the directories that one file names, as they stand there; none if it is not there. Raises as `herds`."""
    try:
        with open(path, "rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise HostFileError(path, "read", error) from error
    if len(text) > _MOST_BYTES:
        raise ConfigUnclear(path, f"more than {_MOST_BYTES} bytes")
    return _named(path, text)


def add_herd(directory: PathName) -> str | None:
    """Names a directory as a herd; returns the file that says so now, None if one did already.

    Raises `HostFileError` for what is no directory, and as `herds`.
    """
    require_directories([directory])
    real = os.path.realpath(directory)
    if real in herds():
        return None
    path = own_file()
    _write(path, [*herds_in(path), real])
    return path


def remove_herd(directory: PathName) -> str:
    """Forgets a named herd, which may be gone; returns the file that named it.

    Raises `InvalidRequest` if the user's own file does not name it, and as `herds`.
    """
    path, real = own_file(), os.path.realpath(directory)
    named = herds_in(path)
    left = [name for name in named if os.path.realpath(name) != real]
    if len(left) == len(named):
        raise InvalidRequest(f"{printable(real)} is not a herd that {printable(path)} names")
    _write(path, left)
    return path


def _files() -> list[str]:
    chosen = os.environ.get(CONFIG_VARIABLE, "")
    if chosen:
        return [os.path.abspath(chosen)]
    if os.geteuid() == 0:  # with sudo the home may be somebody else's
        return [_SYSTEM]
    home = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(home):  # the specification says to ignore relative ones
        home = os.path.join(os.path.expanduser("~"), ".config")
    return [_SYSTEM, os.path.join(home, "cowherd", "cowherd.toml")]


def _named(path: str, text: bytes) -> list[str]:
    if not text.strip():
        return []
    named = _parsed(path, text).get(_KEY, [])
    if not isinstance(named, list) or not all(isinstance(name, str) and os.path.isabs(name) for name in named):
        raise ConfigUnclear(path, f"{_KEY} is no list of absolute paths")
    if any("\0" in name for name in named):
        raise ConfigUnclear(path, f"{_KEY} holds a name with a zero byte")
    return named


def _parsed(path: str, text: bytes) -> dict[str, Any]:
    import tomllib  # only where there is such a file

    try:
        return tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigUnclear(path, f"it is not TOML: {error}") from error


def _write(path: str, named: Sequence[str]) -> None:
    """Writes the list into a file, and keeps its other lines. Raises `ConfigUnclear` for a file that a person must edit."""
    from cowherd.storage.atomic import write_atomically

    text = _read_text(path)
    try:
        changed = "".join(_edited(text, named))
        if herds_of(path, changed) != list(named) or _others(path, changed) != _others(path, text):
            raise ValueError("not what was meant")
    except (ValueError, ConfigUnclear) as error:
        raise ConfigUnclear(path, f"the list of herds can't be edited here ({error}); do it by hand") from error
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except OSError as error:
        raise HostFileError(path, "create the directory of", error) from error
    write_atomically(as_path(path), changed.encode("utf-8"), mode=0o644)


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise HostFileError(path, "read", error) from error


def herds_of(path: str, text: str) -> list[str]:
    """Returns the directories that the text of a file names. Raises `ConfigUnclear`."""
    return _named(path, text.encode("utf-8"))


def _others(path: str, text: str) -> dict[str, Any]:
    return {key: value for key, value in _parsed(path, text.encode("utf-8")).items() if key != _KEY}


def _edited(text: str, named: Sequence[str]) -> Iterator[str]:
    """Yields the lines of a file, with the list of herds at its head, before any table, in place of the list in the file."""
    yield f"{_KEY} = [{', '.join(map(_quoted, named))}]\n"
    inside = False
    for line in text.splitlines(keepends=True):
        bare = line.split("#", 1)[0].strip()
        begins = bare.replace(" ", "").startswith(f"{_KEY}=[")
        if begins or inside:
            inside = not bare.endswith("]")
        else:
            yield line


def _quoted(name: str) -> str:
    """Returns a name as a string of TOML. Raises ValueError for a name that no text can hold."""
    import json

    name.encode("utf-8")
    return json.dumps(name, ensure_ascii=False)  # TOML's basic strings have JSON's escapes
