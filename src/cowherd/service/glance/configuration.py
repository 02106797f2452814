"""What Glance's configuration says of its database and its file stores, in the form of oslo.config."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import NamedTuple

from cowherd.errors import HostFileError, InvalidRequest

_DEFAULT, _STORES = "DEFAULT", "glance_store"
_USUAL_DIRECTORY = "/var/lib/glance/images"
_FILE = "file"
_SECTION = re.compile(r"\[(.+?)\]\s*$")
_COMMENT = ("#", ";")

Values = dict[tuple[str, str], list[str]]
"""All values that a section and a name were given, in order."""


class Backend(NamedTuple):
    """A file store: its name, and its directories, those that are filled first before the others."""

    name: str
    directories: tuple[Path, ...]


class Configuration(NamedTuple):
    """The address of the database, as SQLAlchemy writes it, and the file stores. `encrypts`: locations are not plain text."""

    database: str
    backends: tuple[Backend, ...]
    encrypts: bool


class _Template(string.Template):
    idpattern = r"(?a:[_a-z][_a-z0-9]*(?:\.[_a-z][_a-z0-9]*)?)"


def read_configuration(path: Path) -> Configuration:
    """Reads `glance-api.conf`, and then the files *.conf in the directory `glance-api.conf.d` beside it, if there is one.

    Raises `HostFileError`, and `InvalidRequest` for what makes no sense.
    """
    values: Values = {}
    for one in (path, *sorted(path.with_name(path.name + ".d").glob("*.conf"))):
        _read_into(values, one)
    database = _one(values, "database", "connection")
    if not database:
        raise InvalidRequest(f"{path} names no database: it has no 'connection' in its section [database]")
    return Configuration(database, _backends(values), bool(_one(values, _DEFAULT, "metadata_encryption_key")))


def _backends(values: Values) -> tuple[Backend, ...]:
    enabled = _one(values, _DEFAULT, "enabled_backends")
    if not enabled:
        return (Backend(_FILE, _directories(values, _STORES)),)
    pairs = [pair.partition(":") for pair in enabled.split(",")]
    return tuple(Backend(name.strip(), _directories(values, name.strip())) for name, _, kind in pairs if kind.strip() == _FILE)


def _directories(values: Values, section: str) -> tuple[Path, ...]:
    several = [_with_priority(value) for value in _all(values, section, "filesystem_store_datadirs")]
    single = _one(values, section, "filesystem_store_datadir") or ("" if several else _USUAL_DIRECTORY)
    ranked = [path for _, path in sorted(several, key=lambda one: -one[0])]
    return tuple(Path(path) for path in (*ranked, single) if path)


def _with_priority(value: str) -> tuple[int, str]:
    """Splits DIRECTORY:PRIORITY, of which the second part may be missing."""
    directory, _, priority = value.rpartition(":")
    if directory and priority.strip().isdigit():
        return int(priority), directory.strip()
    return 0, value.rstrip(":").strip()


def _one(values: Values, section: str, name: str) -> str:
    """Returns the value that holds, the last one; "" if there is none."""
    return next(reversed(_all(values, section, name)), "")


def _all(values: Values, section: str, name: str) -> list[str]:
    return [_filled_in(values, section, value) for value in values.get((section, name), ())]


def _filled_in(values: Values, section: str, value: str) -> str:
    """Returns a value with the others that it names, as in $state_path/images. Raises `InvalidRequest` if there is none."""
    try:
        return _Template(value).substitute({name: _named(values, section, name) for name in _names_in(value)})
    except (KeyError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"Glance's configuration: {value!a} names what is not set there") from error


def _names_in(value: str) -> set[str]:
    found = _Template.pattern.finditer(value)
    return {name for one in found if (name := one["named"] or one["braced"])}


def _named(values: Values, section: str, name: str) -> str:
    group, _, key = name.rpartition(".")
    for place in (group,) if group else (section, _DEFAULT):
        if (place, key) in values:
            return _one(values, place, key)
    raise KeyError(name)


def _read_into(values: Values, path: Path) -> None:
    try:
        text = path.read_text()
    except OSError as error:
        raise HostFileError(path, "read", error) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is no configuration of Glance: {error}") from error
    section, last = _DEFAULT, None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(_COMMENT):
            last = None
        elif line[0].isspace() and last is not None:  # a value goes on
            last[-1] += f" {line.strip()}"
        elif found := _SECTION.match(line.strip()):
            section, last = found[1], None
        else:
            last = values.setdefault((section, *_key_of(path, number, line)), [])
            last.append(_value_of(line))


def _key_of(path: Path, number: int, line: str) -> tuple[str]:
    key, mark, _ = _parts(line)
    if not mark or not key:
        raise InvalidRequest(f"{path}, line {number}: {line!a} is neither a section nor a value")
    return (key,)


def _value_of(line: str) -> str:
    value = _parts(line)[2]
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if is_quoted else value


def _parts(line: str) -> tuple[str, str, str]:
    """Splits "key = value", or "key: value", whichever sign comes first."""
    mark = min("=:", key=lambda sign: line.find(sign) if sign in line else len(line))
    key, mark, value = line.partition(mark)
    return key.strip(), mark, value.strip()
