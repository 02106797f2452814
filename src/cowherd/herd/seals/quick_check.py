"""Checks whether a sealed image is as its seal left it, by the identities of files alone; it reads none of their data."""

from __future__ import annotations

import errno
import os

from cowherd.errors import CowherdError, HostFileError
from cowherd.herd.lineage.scan import Image, Key
from cowherd.herd.records.faults import DriftFound
from cowherd.herd.records.sealfile import read_record
from cowherd.herd.records.sealrecord import ChainFile, SealRecord
from cowherd.herd.records.status import Status
from cowherd.storage.filetype import is_device
from cowherd.storage.identity import FileIdentity
from cowherd.storage.ticks import leaves_no_trace
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.paths import PathName

    Recorded: TypeAlias = Callable[[Image], SealRecord | None]
    """Returns the record of an image's seal; see `record_of`."""


class Condition(NamedTuple):
    """A status with the reason in words, empty if the status needs none.

    `certain` is False if nothing speaks against the image, but a change need not have shown in the times of its file.
    """

    status: Status
    detail: str = ""
    certain: bool = True


FINE = Condition(Status.OK)
NOT_YET = "not yet certain: the clock of its file system could not be seen to tick after it was sealed; --full reads its content"


def record_of(image: Image) -> SealRecord | None:
    """Returns the record of the seal of `image`, or None if it has no seal.

    Raises `ImageFormatError` if the seal is damaged, `HostFileError` if it can't be read.
    """
    seal = image.seal
    return read_record(seal) if seal else None


def record_or_none(image: Image) -> SealRecord | None:
    """Returns the same, and None for one that can't be read, too: it vouches for nothing, and a check of `image` reports it."""
    try:
        return record_of(image)
    except CowherdError:
        return None


def require_as_sealed(lineage: Lineage, image: Image, action: str) -> None:
    """Raises `DriftFound` if an image is sealed, and not as its seal left it; `action` is what is refused then."""
    if image.seal:
        now = condition(lineage, image)
        if not now.status.holds:
            raise DriftFound(image.path, now.status, action)


def may_not_be_read(error: CowherdError) -> bool:
    """Returns whether an error only means that this user may not read: another user may find everything in order."""
    return isinstance(error, HostFileError) and error.errno in (errno.EACCES, errno.EPERM)


def condition(lineage: Lineage, image: Image) -> Condition:
    """Compares the files of an image and of its chain with what its seal recorded. Without a seal it is UNSEALED."""
    return Conditions(lineage, record_of).of(image)


class Conditions:
    """The conditions of the images of one herd, valid while nothing changes there: each is found once and remembered.

    In a chain of sealed images each vouches for all above it: without a memory, every further image would double the work.
    `recorded` reads the records: `Lineage.record_of` for a caller that looks at a whole herd once and changes nothing.
    """

    def __init__(self, lineage: Lineage, recorded: Recorded):
        self._lineage, self._recorded = lineage, recorded
        self._records: dict[Key, SealRecord | None] = {}
        self._known: dict[Key, Condition] = {}

    def of(self, image: Image) -> Condition:
        """Returns the condition of an image, as the function `condition` does."""
        found = self._known.get(image.key)
        if found is None:
            found = self._known[image.key] = self._find(image)
        return found

    def _find(self, image: Image) -> Condition:
        try:
            record = self._record(image)
            if record is None:
                return Condition(Status.UNSEALED)
            own = of_file(image.filename, record.identity, record.atime_ns)
            if not own.status.holds:
                return own
            if own.certain and not record.certain:
                own = own._replace(detail=own.detail or NOT_YET, certain=False)
            below = self._of_chain(image, record)
            return own if below == FINE or (own.status is Status.ATTRIBUTES and below.status is Status.OK) else below
        except CowherdError as error:
            return Condition(Status.UNKNOWN if may_not_be_read(error) else Status.TOUCHED, str(error))

    def _record(self, image: Image) -> SealRecord | None:
        if image.key not in self._records:
            self._records[image.key] = self._recorded(image)
        return self._records[image.key]

    def _of_chain(self, image: Image, record: SealRecord) -> Condition:
        below = self._lineage.chain(image)[1:]
        if self._lineage.in_loop(image):
            return Condition(Status.MISSING_BASE, "its chain is a loop")
        broken = self._lineage.broken(below[-1] if below else image)
        if broken:
            status = Status.UNKNOWN if broken.unknown else Status.MISSING_BASE
            return Condition(status, f"its chain ends at {printable(broken.name)}: {broken.problem}")
        if len(below) != len(record.chain):
            return Condition(Status.REPLACED, f"its chain has {len(below)} files below it and had {len(record.chain)}")
        pairs = list(zip(below, record.chain, strict=True))
        for file, sealed in reversed(pairs):  # from the bottom, so that each finds the conditions below it in the memory
            if sealed.content_digest:
                self.of(file)
        mildest = FINE
        for file, sealed in pairs:
            if not self._vouched_for(file, sealed):
                found = of_file(file.filename, sealed.identity, sealed.atime_ns)
                if found.detail:
                    found = found._replace(detail=f"below it, {printable(file.filename)}: {found.detail}")
                if not found.status.holds:
                    return found
                if mildest == FINE or found.status is Status.ATTRIBUTES:
                    mildest = found
        return mildest

    def _vouched_for(self, file: Image, sealed: ChainFile) -> bool:
        """Returns whether a file below has a seal of its own that holds, with the content digest that it had at the sealing."""
        record = self._record(file) if sealed.content_digest else None
        if record is None or record.content_digest != sealed.content_digest:
            return False
        return self.of(file).status.holds


def of_file(path: PathName, sealed: FileIdentity, atime_ns: int | None = None) -> Condition:
    """Compares one file with an identity that a seal recorded, and `atime_ns`, the time of its last reading then.

    Device numbers prove nothing, since many change with every boot: a file with the same inode, size and times is the same.
    """
    try:
        info = os.stat(path)
    except OSError as error:
        return Condition(Status.MISSING_BASE, str(HostFileError(path, "look at", error)))
    now = FileIdentity.from_stat(info)
    same_content = (now.size, now.mtime_ns) == (sealed.size, sealed.mtime_ns)
    if same_content and (now.inode, now.ctime_ns) == (sealed.inode, sealed.ctime_ns):
        hidden = leaves_no_trace(info)
        return Condition(Status.OK, f"not certain: {hidden}; --full reads its content", certain=False) if hidden else FINE
    if not now.same_file(sealed):
        if is_device(path):
            return Condition(Status.TOUCHED, "its device has another node than it had, as after a boot; --full reads it")
        return Condition(Status.REPLACED, "another file has taken its name since it was sealed")
    if same_content and not _set_by_hand(info.st_atime_ns, sealed, atime_ns):
        return Condition(Status.ATTRIBUTES, "its attributes were changed since it was sealed: owner, mode, labels or links")
    return Condition(Status.TOUCHED, f"{_what_moved(now, sealed)} since it was sealed")


def _set_by_hand(atime_ns: int, sealed: FileIdentity, sealed_atime_ns: int | None) -> bool:
    """Returns whether somebody set the time of a file's last reading, as `touch -d` does.

    A reading after the sealing has a time later than the recorded ctime. So a time that changed and is not later was set by hand,
    and then the time of a write may have been set back too.
    """
    return sealed_atime_ns is not None and atime_ns != sealed_atime_ns and atime_ns <= sealed.ctime_ns


def _what_moved(now: FileIdentity, sealed: FileIdentity) -> str:
    if now.size != sealed.size:
        return f"its length went from {sealed.size} to {now.size} bytes"
    if now.mtime_ns != sealed.mtime_ns:
        return "it was written to"
    return "its times were set by hand, and it may have been written to before that"
