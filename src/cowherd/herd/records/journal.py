"""The journal of a merge: a file `NAME.merge` beside the base, which exists from before the first change until after the last.

All numbers are little-endian:

    offset  bytes  what
    0       8      magic "cowmerge"
    8       4      version, 1
    12      4      length of the record in bytes
    16      4      CRC-32 of the record
    20      4      zero
    24             the record, a JSON object (see `Entry`); paths in it are relative to the journal's directory
                   for each phase that was reached: its number and the CRC-32 of that number with the record's (4 bytes each)

A journal is accepted only if it says what a journal beside this base can say: `base` is the image that it lies beside,
`temporary` and `fork` are plain names in that directory. `recover` checks who wrote it, and what that allows.

The file appears whole or not at all, phases are appended, and each is durable before the work that it announces begins. A phase
that a crash cut short does not count. The process that carries out the merge holds QEMU's image locks on the journal; so others
tell a merge that runs from one that was interrupted.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import struct
import time
import zlib

from cowherd.errors import HostFileError, ImageFormatError, ImageInUse, InvalidRequest
from cowherd.herd.records import checked
from cowherd.herd.records.ownership import JOURNAL_MAGIC, is_journal, is_unfinished_name, require_name_free
from cowherd.jsontext import write_json
from cowherd.paths import as_path
from cowherd.storage.atomic import meant_for, name_newcomer, sync_directory, temporary_name
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ, WRITE
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any, Self

SUFFIX = ".merge"

_MAGIC = JOURNAL_MAGIC
_VERSION = 1
_PREFIX = struct.Struct("<8sIII4x")
_PHASE = struct.Struct("<II")
_MAX_RECORD = 256 << 20
_MOST = 1 << 24  # images, ranges or witnesses
_STRATEGIES, _KEEPS = ("preserve", "fork"), ("nothing", "empty", "content")
_MAX_PHASES = 64
_TRIES, _PAUSE_SECONDS = 5, 0.02


class Phase(enum.IntEnum):
    """How far a merge has come.

    PREPARING: no disk shows a change yet, and removing the journal undoes the merge. APPLYING: the base (or, once the new base of
    a fork is ready, the rest of the herd) is being changed, and the merge can only be finished.
    """

    PREPARING = 0
    APPLYING = 1


class Witness(NamedTuple):
    """A child of the base as it was before: `digest` is over its guest bytes in the ranges that the merge may touch.

    `whole`: the digest also covers the bytes that the child holds itself.
    """

    path: Path
    digest: str
    whole: bool


class Entry(NamedTuple):
    """What a journal records, with absolute paths.

    `strategy` and `keep` are as in `cowherd.herd.merge.merge`. `images` lists every file that the merge concerns, so that other
    commands can tell whether theirs is among them. `changed` holds the guest bytes of the base that change, as (start, length)
    pairs. `temporary` and `fork` are the names of the new base before and after it is complete, None if the merge makes none.
    """

    strategy: str
    keep: str
    overlay: Path
    base: Path
    base_format: str
    images: tuple[Path, ...]
    changed: tuple[tuple[int, int], ...]
    witnesses: tuple[Witness, ...]
    temporary: Path | None
    fork: Path | None
    begun: str
    made_by: str


def journal_path(base: Path) -> Path:
    """Returns where the journal of a merge into `base` lies."""
    return base.with_name(base.name + SUFFIX)


def require_journal_free(base: Path) -> None:
    """Raises `NameTaken` if a file that is no journal has the name of the journal of a merge into `base`."""
    path = journal_path(base)
    if not is_journal(path):
        require_name_free(path, "journal of a merge", base)


class Journal:
    """An open journal, locked by this process until it is closed or removed."""

    def __init__(self, file: HostFile, entry: Entry, phase: Phase, end: int, crc: int):
        self._file, self.entry, self.phase = file, entry, phase
        self._end, self._crc = end, crc

    @property
    def path(self) -> Path:
        """Path of the journal."""
        return self._file.path

    @classmethod
    def create(cls, path: Path, entry: Entry) -> Self:
        """Writes a new journal, durably, in phase PREPARING.

        Raises `HostFileError`, also if there is a journal already; `NameTaken` if another file has its name.
        """
        require_journal_free(entry.base)
        text = write_json(_to_json(entry, path.parent), sort_keys=True).encode("ascii")
        if len(text) > _MAX_RECORD:
            raise InvalidRequest("the merge changes more ranges, or concerns more images, than its journal can name")
        crc = zlib.crc32(text)
        temporary = temporary_name(path)
        with meant_for(path, temporary):
            file = HostFile.create(temporary, exclusive=True, lock=WRITE)
            try:
                file.pwritev(0, [_PREFIX.pack(_MAGIC, _VERSION, len(text), crc), text])
                file.flush()
                name_newcomer(file, path)
            except BaseException:
                file.close()
                with contextlib.suppress(OSError):  # it already has its final name, or the first error says more
                    os.unlink(temporary)
                raise
        return cls(file, entry, Phase.PREPARING, _PREFIX.size + len(text), crc)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens an interrupted merge's journal in order to finish or undo the merge.

        Raises `ImageInUse` while the merge runs, `ImageFormatError` if the journal is damaged, `HostFileError`.
        """
        file = _open_alone(path)
        try:
            entry, phase, end, crc = _read(file)
        except BaseException:
            file.close()
            raise
        return cls(file, entry, phase, end, crc)

    def advance(self, phase: Phase) -> None:
        """Records durably that `phase` begins. Raises `HostFileError`."""
        self._file.pwrite(self._end, _packed_phase(phase, self._crc))
        self._file.flush()
        self._end += _PHASE.size
        self.phase = phase

    def remove(self) -> None:
        """Removes the journal durably and closes it, which ends the merge. Raises `HostFileError`."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise HostFileError(self.path, "remove", error) from error
        sync_directory(self.path.parent)
        self.close()

    def close(self) -> None:
        """Leaves the journal where it is, for `recover`, and unlocks it. Closing twice is fine."""
        self._file.close()


class Seen(NamedTuple):
    """A journal as other processes see it. `entry` is None if it is damaged: see `problem`. `running`: a process holds it."""

    path: Path
    entry: Entry | None
    phase: Phase
    running: bool
    problem: str | None = None


def look_at(path: Path) -> Seen | None:
    """Reads a journal without disturbing the process that works on it. Returns None if no journal has that name.

    Raises `HostFileError`.
    """
    try:
        if not is_journal(path):
            return None
        with HostFile.open(path, lock=None, follow=False) as file:
            running = _is_locked(file)
            try:
                entry, phase, _, _ = _read(file)
            except ImageFormatError as error:
                return Seen(path, None, Phase.APPLYING, running, str(error))
            return Seen(path, entry, phase, running)
    except HostFileError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def _open_alone(path: Path) -> HostFile:
    """Opens and locks a journal. Tries again while others hold it, since a process that only looks at it is gone in a moment."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(ImageInUse):
            return HostFile.open(path, writable=True, lock=WRITE, follow=False)
        time.sleep(_PAUSE_SECONDS)
    return HostFile.open(path, writable=True, lock=WRITE, follow=False)


def _is_locked(file: HostFile) -> bool:
    try:
        file.lock(READ)
    except ImageInUse:
        return True
    return False


def _packed_phase(phase: int, crc: int) -> bytes:
    return _PHASE.pack(phase, zlib.crc32(phase.to_bytes(4, "little"), crc))


def _read(file: HostFile) -> tuple[Entry, Phase, int, int]:
    """Returns the record, the last phase reached, the offset at which the next one goes, and the record's CRC-32."""
    size = file.size()
    if size < _PREFIX.size:
        raise _damaged(file, "it is too short to be a journal")
    magic, version, length, crc = _PREFIX.unpack(file.pread(0, _PREFIX.size))
    if magic != _MAGIC:
        raise _damaged(file, "it is not a journal of a merge")
    if version != _VERSION:
        raise _damaged(file, f"it has version {version}; this cowherd knows version {_VERSION}")
    if length > min(_MAX_RECORD, size - _PREFIX.size):
        raise _damaged(file, "it is cut short")
    text = file.pread(_PREFIX.size, length)
    if zlib.crc32(text) != crc:
        raise _damaged(file, "the checksum of its record is wrong")
    try:
        entry = _from_json(checked.load_record(text), file.path)
    except ValueError as error:
        raise _damaged(file, f"its record makes no sense ({error})") from error
    phase, end = _last_phase(file, _PREFIX.size + length, crc)
    return entry, phase, end, crc


def _last_phase(file: HostFile, start: int, crc: int) -> tuple[Phase, int]:
    phase = Phase.PREPARING
    for end in range(start, min(file.size() - _PHASE.size, start + _MAX_PHASES * _PHASE.size) + 1, _PHASE.size):
        data = file.pread(end, _PHASE.size)
        number = _PHASE.unpack(data)[0]
        if number not in list(Phase) or data != _packed_phase(number, crc):
            break
        phase, start = Phase(number), end + _PHASE.size
    return phase, start


def _damaged(file: HostFile, problem: str) -> ImageFormatError:
    return ImageFormatError(file.path, f"the journal of a merge is damaged: {problem}")


def _to_json(entry: Entry, directory: Path) -> dict[str, Any]:
    def stored(path: Path | None) -> str | None:
        if path is None:
            return None
        return os.path.relpath(os.path.join(os.path.realpath(path.parent), path.name), os.path.realpath(directory))

    return {
        "strategy": entry.strategy,
        "keep": entry.keep,
        "overlay": stored(entry.overlay),
        "base": stored(entry.base),
        "base_format": entry.base_format,
        "images": [stored(path) for path in entry.images],
        "changed": [list(pair) for pair in entry.changed],
        "witnesses": [[stored(one.path), one.digest, one.whole] for one in entry.witnesses],
        "temporary": stored(entry.temporary),
        "fork": stored(entry.fork),
        "begun": entry.begun,
        "made_by": entry.made_by,
    }


def _from_json(facts: dict[str, Any], journal: Path) -> Entry:
    home = os.path.realpath(journal.parent)

    def path(name: object) -> Path:
        return as_path(os.path.normpath(os.path.join(home, checked.path_name(name))))

    def beside(name: object) -> Path | None:
        return None if name is None else as_path(home, checked.plain_name(name))

    def value(name: str) -> Any:
        return checked.field(facts, name)

    base = path(value("base"))
    if os.fspath(base) != os.path.join(home, journal.name.removesuffix(SUFFIX)):
        raise ValueError("it is of a merge into another image than the one that it lies beside")
    entry = Entry(
        strategy=_one_of(value("strategy"), _STRATEGIES),
        keep=_one_of(value("keep"), _KEEPS),
        overlay=path(value("overlay")),
        base=base,
        base_format=checked.word(value("base_format"), 32),
        images=tuple(map(path, checked.row(value("images"), _MOST))),
        changed=tuple(map(_range, checked.row(value("changed"), _MOST))),
        witnesses=tuple(_witness(one, path) for one in checked.row(value("witnesses"), _MOST)),
        temporary=beside(value("temporary")),
        fork=beside(value("fork")),
        begun=checked.word(value("begun")),
        made_by=checked.word(value("made_by")),
    )
    _require_new_base(entry)
    return entry


def _require_new_base(entry: Entry) -> None:
    """Raises ValueError unless a new base is named exactly for a fork, under a name that no image of the merge has."""
    if (entry.strategy == "fork") != (entry.temporary is not None) or (entry.temporary is None) != (entry.fork is None):
        raise ValueError("only a fork makes a new base")
    if entry.temporary is not None and not is_unfinished_name(entry.temporary.name):
        raise ValueError("the new base has a name that no unfinished file has")
    if entry.fork in (entry.base, entry.overlay, journal_path(entry.base)) or entry.overlay == entry.base:
        raise ValueError("the new base has the name of another image")


def _one_of(value: object, words: tuple[str, ...]) -> str:
    if checked.text(value) not in words:
        raise ValueError(f"{str(value)[:20]!a} is none of {', '.join(words)}")
    return str(value)


def _range(value: object) -> tuple[int, int]:
    start, length = _parts(value, 2)
    first = checked.whole(start)
    return first, checked.whole(length, checked.LARGEST - first)


def _witness(value: object, path: Callable[[object], Path]) -> Witness:
    name, digest, whole = _parts(value, 3)
    return Witness(path(name), checked.word(digest), checked.yes_or_no(whole))


def _parts(value: object, number: int) -> list[Any]:
    parts = checked.row(value, number)
    if len(parts) != number:
        raise ValueError(f"a list of {len(parts)} things where {number} are due")
    return parts
