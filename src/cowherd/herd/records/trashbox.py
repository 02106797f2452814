"""Reads and writes a trash: the directory `.cowherd-trash` beside deleted images, so that deleting and restoring are renames.

For each deleted image it holds `ID.json`, which records its name, and the directory `ID` with the image, its seal and its shadow
under their own names. An entry whose directory has no image was interrupted, and is not listed.

Anybody who may write in the images' directory can put a trash there too. So no link in it is followed, an image comes back into
the directory in which the trash lies whatever its record says, and files that are not cowherd's are left where they are.
"""

from __future__ import annotations

import contextlib
import os
import stat

from cowherd.errors import HostFileError, ImageFormatError
from cowherd.herd.records import checked
from cowherd.herd.records.faults import RecordNotTrusted
from cowherd.herd.records.ownership import OTHERS_MAY_WRITE, TRASH, is_forgotten, is_regular, is_unfinished_name
from cowherd.paths import as_path
from cowherd.storage import atomic
from cowherd.storage.directory import Directory
from cowherd.storage.hostfile import HostFile, naming_file
from cowherd.storage.identity import FileIdentity
from cowherd.storage.presence import look_up
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from cowherd.paths import PathName

_VERSION = 1
_LONGEST_RECORD = 1 << 20
_MOST_DEPENDENTS = 100_000
_PRIVATE = 0o700
_ID = "########-######-xxxxxx"
"""The form of an id: # stands for a digit, x for a hexadecimal one."""
_DATE = "####-##-##T##:##:##"


class Entry(NamedTuple):
    """One deleted image: where it was (`path`), when it was deleted (ISO 8601, UTC), and which images depended on it then.

    `identity` is that of its file in the trash, None if it could not be recorded. `sealed`: its seal held. `immutable`: somebody
    other than cowherd had made its file immutable, and it is immutable again in the trash.
    """

    trash: Path
    id: str
    path: Path
    deleted: str
    dependents: tuple[Path, ...]
    identity: FileIdentity | None
    sealed: bool
    immutable: bool = False

    @property
    def directory(self) -> Path:
        """Directory that holds its files."""
        return self.trash / self.id

    @property
    def image(self) -> Path:
        """The image's file."""
        return self.directory / self.path.name

    @property
    def record(self) -> Path:
        """File that records this entry."""
        return self.trash / f"{self.id}.json"

    @property
    def disk_size(self) -> int:
        """Bytes that its files occupy on the host."""
        return sum(disk_size(path) for path in _files(self.directory))

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd trash list --json` prints them."""
        return {
            "path": os.fspath(self.path),
            "id": self.id,
            "deleted": self.deleted,
            "disk_size": self.disk_size,
            "dependents": [os.fspath(path) for path in self.dependents],
        }


def write_entry(entry: Entry, box: Directory) -> None:
    """Records an entry durably in its trash `box`. Raises `HostFileError`."""
    fields = {
        "version": _VERSION,
        "path": os.fspath(entry.path),
        "deleted": entry.deleted,
        "dependents": [os.fspath(path) for path in entry.dependents],
        "identity": entry.identity.to_dict() if entry.identity else None,
        "sealed": entry.sealed,
        "immutable": entry.immutable,
    }
    import json

    atomic.write_atomically(box.held(entry.record.name), json.dumps(fields, indent=1).encode("ascii"), mode=0o600)


def read_entry(record: Path) -> Entry:
    """Reads what `write_entry` wrote. Raises `ImageFormatError` where it makes no sense, `HostFileError`."""
    with HostFile.open(record, lock=None, follow=False) as file:
        text = file.pread(0, min(file.size(), _LONGEST_RECORD))
    try:
        return _entry(record, checked.load_record(text))
    except ValueError as error:
        raise ImageFormatError(record, f"it is no record of a deleted image ({error})") from error


def _entry(record: Path, fields: dict[str, Any]) -> Entry:
    if checked.whole(checked.field(fields, "version")) != _VERSION:
        raise ValueError(f"version {fields['version']!r}")
    path = checked.path_name(checked.field(fields, "path"))
    if not os.path.isabs(path):
        raise ValueError("the path is not absolute")
    identity, deleted = checked.field(fields, "identity"), checked.word(checked.field(fields, "deleted"), 40)
    if not _has_form(deleted[: len(_DATE)], _DATE):
        raise ValueError("it was deleted at no time")
    dependents = checked.row(checked.field(fields, "dependents"), _MOST_DEPENDENTS)
    return Entry(
        trash=record.parent,
        id=record.name.removesuffix(".json"),
        # The directory may have moved together with its trash since, and somebody else may have written the record: only the
        # name counts, in the directory where the trash lies now.
        path=record.parent.parent / checked.plain_name(os.path.basename(path)),
        deleted=deleted,
        dependents=tuple(as_path(checked.path_name(name)) for name in dependents),
        identity=None if identity is None else FileIdentity.from_dict(checked.dictionary(identity)),
        sealed=checked.yes_or_no(checked.field(fields, "sealed")),
        immutable=checked.yes_or_no(fields.get("immutable", False)),
    )


def _has_form(text: str, form: str) -> bool:
    digits = {"#": "0123456789", "x": "0123456789abcdef"}
    return len(text) == len(form) and all(one in digits.get(kind, kind) for one, kind in zip(text, form, strict=True))


def is_entry_name(name: str) -> bool:
    """Returns whether deleting gives such a name in a trash: to an entry's directory, or to its record."""
    return _has_form(name.removesuffix(".json"), _ID)


@contextlib.contextmanager
def open_trash(home: Directory, *, make: bool = False) -> Iterator[Directory]:
    """Opens the trash in the directory `home`. With `make` it creates a missing one, and requires that images are safe in it.

    Raises `RecordNotTrusted` if the trash is a link or a file, and with `make` if another user owns it or others may write in it;
    `HostFileError`.
    """
    there = home.look_up(TRASH)
    if there is not None and not stat.S_ISDIR(there.st_mode):
        raise RecordNotTrusted(
            home.path / TRASH, "it is no directory, but a link or a file; move it away, or delete with --purge"
        )
    if make and there is None:
        with naming_file(home.path / TRASH, "create"), contextlib.suppress(FileExistsError):  # another process was faster
            os.mkdir(home.held(TRASH), _PRIVATE)
        atomic.sync_directory(home.held())
    with home.below(TRASH) as box:
        if make:
            info, around = box.info(), home.info()
            if info.st_uid not in (0, os.geteuid(), around.st_uid):
                raise RecordNotTrusted(box.path, f"it belongs to user {info.st_uid}; move it away, or delete with --purge")
            if info.st_mode & OTHERS_MAY_WRITE:
                raise RecordNotTrusted(box.path, "others may write in it; take that right away, or delete with --purge")
        yield box


def is_trusted(box: Directory) -> bool:
    """Returns whether only this user and root can have written the files in a trash."""
    info = box.info()
    return info.st_uid in (0, os.geteuid()) and not info.st_mode & OTHERS_MAY_WRITE


def trash_directories(directories: Iterable[PathName]) -> Iterator[Path]:
    """Yields the trash directories in `directories` and everywhere under them, without entering other file systems."""
    return (trash for trash in _paths_named_trash(directories) if _is_directory(trash))


def strange_trashes(directories: Iterable[PathName]) -> Iterator[Path]:
    """Yields, for the same directories, what has the name of a trash and is no directory (a link, say). Nothing touches it."""
    return (trash for trash in _paths_named_trash(directories) if not _is_directory(trash))


def _paths_named_trash(directories: Iterable[PathName]) -> Iterator[Path]:
    for directory in directories:
        top = os.path.realpath(directory)
        with contextlib.suppress(OSError):  # a directory that does not exist has no trash
            device = os.stat(top).st_dev
            for current, names, files in os.walk(top):
                if TRASH in names or TRASH in files:
                    yield as_path(current, TRASH)
                names[:] = sorted(name for name in names if name != TRASH and _device(current, name) == device)


def trashes_right_in(directories: Iterable[str]) -> Iterator[Path]:
    """Yields the trash directories directly in `directories`."""
    return (as_path(directory, TRASH) for directory in sorted(directories) if _is_directory(as_path(directory, TRASH)))


def _is_directory(path: Path) -> bool:
    """Returns whether `path` is a directory, not a link."""
    info = look_up(path, follow=False)
    return info is not None and stat.S_ISDIR(info.st_mode)


def _device(directory: str, name: str) -> int | None:
    try:
        return os.lstat(os.path.join(directory, name)).st_dev
    except OSError:
        return None  # gone since it was listed


def entries(trash: Path) -> tuple[list[Entry], list[Path]]:
    """Returns the entries of a trash directory, the oldest first, and the other paths in it: interrupted, damaged, or links."""
    found, other = [], []
    names = _listed(trash)
    for name in names:
        path = trash / name
        if name.endswith(".json"):
            entry = _entry_in(path)
            if entry is not None:
                found.append(entry)
            else:
                other.append(path)
        elif f"{name}.json" not in names or not _is_directory(path):
            other.append(path)
    return sorted(found, key=lambda entry: (entry.deleted, entry.id)), other


def _entry_in(record: Path) -> Entry | None:
    """Returns the entry that a record describes; None if it is no record, the image is missing, or either is a link."""
    if not is_entry_name(record.name) or not is_regular(record):
        return None
    try:
        entry = read_entry(record)
    except ImageFormatError:
        return None
    return entry if _is_directory(entry.directory) and is_regular(entry.image) else None


def remains(trash: Path) -> list[Path]:
    """Returns the paths that interrupted work certainly left in a trash directory.

    These are: the record of an image that is not there, with its directory if all its files lie beside the trash too; an empty
    directory that was made for an image; a record that was never finished; and a trash that is empty.
    """
    found = []
    for path in entries(trash)[1]:
        directory = path.with_name(path.name.removesuffix(".json"))
        if is_forgotten(path):
            found.append(path)
        elif not is_entry_name(path.name) or not (_is_vacated(directory) or look_up(directory, follow=False) is None):
            continue
        elif path == directory or _is_record(path):
            found += [path, directory] if path != directory and _is_directory(directory) else [path]
    return found if found or _listed(trash) else [trash]


def strays(trash: Path) -> list[Path]:
    """Returns the other paths in a trash directory that are not certainly left over; nothing touches them."""
    left = set(remains(trash))
    return [path for path in entries(trash)[1] if path not in left and not is_unfinished_name(path.name)]


def _is_vacated(directory: Path) -> bool:
    """Returns whether every file in an entry's directory is back beside the trash, under its own name."""
    if not _is_directory(directory):
        return False
    home = directory.parent.parent
    return all(_same_file(path, home / path.name) for path in _files(directory))


def _same_file(one: Path, other: Path) -> bool:
    first, second = look_up(one, follow=False), look_up(other, follow=False)
    return first is not None and second is not None and os.path.samestat(first, second)


def _is_record(path: Path) -> bool:
    try:
        return is_regular(path) and bool(read_entry(path))
    except (ImageFormatError, HostFileError):
        return False


def find_entries(trashes: Sequence[Path], name: PathName) -> list[Entry]:
    """Returns the entries that `name` names, the newest last in each trash. `name` is an id, or the path that an image had."""
    wanted = as_path(os.path.abspath(name))
    beside = as_path(os.path.realpath(wanted.parent)) / TRASH
    places = dict.fromkeys([*trashes, *([beside] if _is_directory(beside) else [])])
    return [entry for trash in places for entry in entries(trash)[0] if os.fspath(name) == entry.id or _same(entry.path, wanted)]


def _same(path: Path, wanted: Path) -> bool:
    return path == wanted or path == as_path(os.path.realpath(wanted.parent)) / wanted.name


def _listed(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError as error:
        raise HostFileError(directory, "look into", error) from error


def _files(directory: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(directory.iterdir())
    return []


def disk_size(path: Path) -> int:
    """Returns the bytes that a file occupies, 0 for one that is gone or can't be looked at."""
    with contextlib.suppress(OSError):
        return os.lstat(path).st_blocks * 512
    return 0
