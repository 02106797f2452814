"""What lies in a trash: `.cowherd-trash` beside the images that were deleted, so that deleting and restoring are renames.

Of each deleted image it holds `ID.json`, which says where it came from, and the directory `ID` with the image, its seal and its
shadow under their own names. An entry whose directory has no image is one that was interrupted, and is not listed.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from cowherd.errors import HostFileError, ImageFormatError
from cowherd.herd.listing import TRASH
from cowherd.storage import atomic
from cowherd.storage.hostfile import HostFile
from cowherd.storage.identity import FileIdentity
from cowherd.storage.presence import is_there
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

_VERSION = 1
_LONGEST_RECORD = 1 << 20

PathName = str | os.PathLike[str]


class Entry(NamedTuple):
    """One deleted image: where it was (`path`), when it was deleted (ISO 8601, UTC), and what stood on it then.

    `identity` is its file's as it lies in the trash, None if that could not be recorded; `sealed`: its seal held.
    """

    trash: Path
    id: str
    path: Path
    deleted: str
    dependents: tuple[Path, ...]
    identity: FileIdentity | None
    sealed: bool

    @property
    def directory(self) -> Path:
        """Where its files lie."""
        return self.trash / self.id

    @property
    def image(self) -> Path:
        """The image's file."""
        return self.directory / self.path.name

    @property
    def record(self) -> Path:
        """The file that says all this."""
        return self.trash / f"{self.id}.json"

    @property
    def disk_size(self) -> int:
        """What its files occupy on the host, in bytes."""
        return sum(_disk_size(path) for path in _files(self.directory))


def write_entry(entry: Entry) -> None:
    """Records an entry durably."""
    fields = {
        "version": _VERSION,
        "path": os.fspath(entry.path),
        "deleted": entry.deleted,
        "dependents": [os.fspath(path) for path in entry.dependents],
        "identity": entry.identity.to_dict() if entry.identity else None,
        "sealed": entry.sealed,
    }
    atomic.write_atomically(entry.record, json.dumps(fields, indent=1).encode("ascii"), mode=0o600)


def read_entry(record: Path) -> Entry:
    """Reads what `write_entry` wrote. Raises `ImageFormatError` where it makes no sense, `HostFileError`."""
    with HostFile.open(record, lock=None) as file:
        text = file.pread(0, min(file.size(), _LONGEST_RECORD))
    try:
        return _entry(record, json.loads(text))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ImageFormatError(record, f"it is no record of a deleted image ({type(error).__name__}: {error})") from error


def _entry(record: Path, fields: dict[str, Any]) -> Entry:
    if fields["version"] != _VERSION:
        raise ValueError(f"version {fields['version']!r}")
    path, identity = Path(fields["path"]), fields["identity"]
    if not path.is_absolute() or not path.name:
        raise ValueError("the path is not absolute")
    return Entry(
        trash=record.parent,
        id=record.name.removesuffix(".json"),
        path=path,
        deleted=str(fields["deleted"]),
        dependents=tuple(map(Path, fields["dependents"])),
        identity=None if identity is None else FileIdentity.from_dict(identity),
        sealed=fields["sealed"] is True,
    )


def trash_directories(directories: Iterable[PathName]) -> Iterator[Path]:
    """Yields the trash directories in `directories` and everywhere under them, without entering other file systems."""
    for directory in directories:
        top = os.path.realpath(directory)
        with contextlib.suppress(OSError):  # what is not there has no trash
            device = os.stat(top).st_dev
            for current, names, _ in os.walk(top):
                if TRASH in names:
                    yield Path(current, TRASH)
                names[:] = sorted(name for name in names if name != TRASH and _device(current, name) == device)


def _device(directory: str, name: str) -> int | None:
    try:
        return os.lstat(os.path.join(directory, name)).st_dev
    except OSError:
        return None  # gone since it was listed


def entries(trash: Path) -> tuple[list[Entry], list[Path]]:
    """Returns the entries of a trash directory, the oldest first, and what else lies there: interrupted or damaged ones."""
    found, other = [], []
    for name in _listed(trash):
        path = trash / name
        if name.endswith(".json"):
            try:
                entry = read_entry(path)
            except ImageFormatError:
                other.append(path)
                continue
            if is_there(entry.image):
                found.append(entry)
            else:
                other.append(path)
        elif not is_there(trash / f"{name}.json"):
            other.append(path)
    return sorted(found, key=lambda entry: (entry.deleted, entry.id)), other


def remains(trash: Path) -> list[Path]:
    """Returns what interrupted work left in a trash directory: the record of an image that is not there, with what else was that
    image's, and directories that are empty. An image whose record is damaged is not among them."""
    found = []
    for path in entries(trash)[1]:
        directory = path.with_name(path.name.removesuffix(".json"))
        if not _files(directory) or _is_record(path):
            found += [path, directory] if path != directory and directory.is_dir() else [path]
    return found if found or _listed(trash) else [trash]


def _is_record(path: Path) -> bool:
    try:
        read_entry(path)
    except (ImageFormatError, HostFileError):
        return False
    return True


def find_entries(trashes: Sequence[Path], name: PathName) -> list[Entry]:
    """Returns the entries that `name` means, the newest last: an id, or the path that an image had."""
    wanted = Path(os.path.abspath(name))
    beside = wanted.parent / TRASH
    places = dict.fromkeys([*trashes, *([beside] if beside.is_dir() else [])])
    return [entry for trash in places for entry in entries(trash)[0] if os.fspath(name) == entry.id or _same(entry.path, wanted)]


def _same(path: Path, wanted: Path) -> bool:
    return path == wanted or path == Path(os.path.realpath(wanted.parent)) / wanted.name


def _listed(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError as error:
        raise HostFileError(directory, "look into", error) from error


def _files(directory: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(directory.iterdir())
    return []


def _disk_size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return os.lstat(path).st_blocks * 512
    return 0
