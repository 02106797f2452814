"""Bytes that arrive for an image, and what becomes of them and of its record if they do not arrive whole."""

from __future__ import annotations

import contextlib
import errno
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cowherd.errors import CowherdError, HostFileError, error_of_host
from cowherd.service import counting
from cowherd.service.intake.faults import LengthDiffers, Refused, StoreFull, TooLarge
from cowherd.service.intake.inspection import Rules
from cowherd.service.intake.lineage import Bases
from cowherd.service.records.database import Database
from cowherd.service.records.events import Author, Event, record_event
from cowherd.service.records.failures import queue_again, telling_why
from cowherd.service.records.faults import ImageNotFound, QuotaExceeded, StatusConflict
from cowherd.service.records.image import Image, now
from cowherd.service.records.images import change_status
from cowherd.service.records.quotas import Resource, check_quota
from cowherd.service.records.states import QUEUED
from cowherd.service.records.uploads import UploadRecord, begin_upload, end_upload, reserve
from cowherd.stores.directory import DirectoryStore
from cowherd.stores.incoming import Incoming

if TYPE_CHECKING:
    from sqlalchemy import Connection

_REFUSALS = (TooLarge, StoreFull, QuotaExceeded, HostFileError)
"""Errors because of which nothing may arrive, whoever sends it."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_STEP = 64 << 20
LONGEST = timedelta(days=1)
"""How long bytes may take to arrive, or wait for what is to become of them."""


@dataclass(frozen=True)
class Conversion:
    """The format that imported images are converted to; `tell` is called with a sentence when that begins."""

    format: str
    tell: Callable[[str], None]


@dataclass(frozen=True)
class Intake:
    """Where bytes go, and what is asked of them. `hash_algorithm` is that of `os_hash_algo`; an image may have `most_bytes`."""

    database: Database
    store: DirectoryStore
    rules: Rules = field(default_factory=Rules)
    hash_algorithm: str = "sha512"
    md5: bool = True
    most_bytes: int = 1 << 40
    quotas: Mapping[Resource, int] = field(default_factory=dict)
    """What a project may have for which nothing else is recorded."""
    bases: Bases | None = None
    """What overlays may stand on; without it none is taken."""
    certificates: str = ""
    """The directory of the certificates for signatures, "" if there is none."""
    conversion: Conversion | None = None
    """What imported images are converted to; None leaves them as they are."""
    author: Author | None = None
    """Who sends the bytes; None: the service fetches them."""

    @property
    def hashes(self) -> tuple[str, ...]:
        """The digests to make beside BLAKE3, by hashlib's names."""
        return ("md5", self.hash_algorithm) if self.md5 else (self.hash_algorithm,)

    def note(self, connection: Connection, action: str, upload: UploadRecord, **detail: Any) -> None:
        """Records that `action` was done with an upload, by who sends its bytes; `detail` holds its facts, beside its id."""
        author, told = self.author or Author(project=upload.project), {"upload": upload.id, **detail}
        record_event(connection, Event(action=action, image_id=upload.image_id, detail=told, **author._asdict()))


class Arriving:
    """Bytes that arrive for an image which is `status` meanwhile, under `record`, into the file `incoming`.

    Whatever ends it before they are all there, nothing of them is left, the image is queued again, and its record says why.
    """

    def __init__(self, intake: Intake, record: UploadRecord, incoming: Incoming, status: str):
        """Takes the file over."""
        self.record, self.received = record, 0
        self._intake, self._incoming, self._status = intake, incoming, status
        self._reserved = record.reserved
        self._over = False

    def abandon(self, reason: str, action: str | None = None) -> None:
        """Ends it, as the bytes no longer come; `reason` is a sentence for the image's record. Abandoning twice is fine.

        `action` is that of an event if somebody asked for the end.
        """
        if not self._over:
            self._over = True
            self._stop()
            try:
                drop(self._intake.store, self._incoming)
            finally:
                self._queue_again(reason, action)

    def _stop(self) -> None:
        """Ends what works on the bytes beside the file."""

    def _count(self, length: int) -> None:
        """Called for the next bytes. Raises `LengthDiffers`, `TooLarge`, `QuotaExceeded`."""
        self.received += length
        if self.record.length is not None and self.received > self.record.length:
            raise LengthDiffers(self.record.length, self.received)
        if self.received > self._intake.most_bytes:
            raise TooLarge(self.received, self._intake.most_bytes)
        if self.received > self._reserved:
            self._reserve_more()

    def _reserve_more(self) -> None:
        """Reserves room for what arrives without having been announced: much at once, or just what is needed."""
        with self._intake.database.write() as connection:
            try:
                self._reserve(connection, max(self.received, self._reserved + _STEP))
            except QuotaExceeded:
                self._reserve(connection, self.received)

    def _reserve(self, connection: Connection, amount: int) -> None:
        more = {Resource.BYTES: amount - self._reserved}
        check_quota(connection, self.record.project, more, self._intake.quotas)
        reserve(connection, self.record.id, amount)
        self._reserved = amount

    def _require_all(self) -> None:
        if self.record.length not in (None, self.received):
            raise LengthDiffers(self.record.length or 0, self.received)

    @contextlib.contextmanager
    def _tidying(self) -> Iterator[None]:
        """Abandons it if the block raises."""
        try:
            with told_if_full(self._intake.store):
                yield
        except CowherdError as error:
            if isinstance(error, Refused) and not self._over:  # and not over by the same error in a block within this one
                counting.add(counting.REFUSED, error.check)
            self._end(error, str(error))
            raise
        except BaseException as error:
            self._end(error, f"The upload ended with an error of the service: {type(error).__name__}. Upload the image again")
            raise

    def _end(self, error: BaseException, reason: str) -> None:
        """Called for an error; `reason` tells of it in the image's record."""
        self.abandon(reason)

    def _queue_again(self, reason: str, action: str | None) -> None:
        with self._intake.database.write() as connection:
            end_upload(connection, self.record.id)
            if action is not None:
                self._intake.note(connection, action, self.record, offset=self.record.offset)
            with contextlib.suppress(ImageNotFound, StatusConflict):  # it was deleted meanwhile, or became active after all
                queue_again(connection, self.record.image_id, {self._status}, reason, size=None)


def begin_arriving(
    intake: Intake,
    image: Image,
    length: int | None,
    status: str,
    kind: str,
    details: dict[str, Any] | None = None,
    action: str | None = None,
) -> tuple[UploadRecord, Incoming]:
    """Makes the file and the record of bytes that begin to arrive for a queued image, which becomes `status`.

    `length` is the number of bytes announced (None: none were), `details` are kept in the record, `action` is that of an event if
    the beginning is a change by itself. Raises `TooLarge` or `StoreFull` if that many can't be kept, `QuotaExceeded`,
    `StatusConflict` unless the image is queued, `HostFileError`. The image's record says why, unless that is its state.
    """
    with telling_why(intake.database, image.id, *_REFUSALS):
        return _begin(intake, image, length, status, kind, details or {}, action)


def _begin(
    intake: Intake, image: Image, length: int | None, status: str, kind: str, details: dict[str, Any], action: str | None
) -> tuple[UploadRecord, Incoming]:
    _require_room(intake, length)
    with told_if_full(intake.store):
        incoming = intake.store.begin()
    record = UploadRecord(
        id=str(uuid.uuid4()),
        image_id=image.id,
        kind=kind,
        project=image.owner,
        store=intake.store.name,
        temporary=incoming.name,
        expires_at=now() + LONGEST,
        length=length,
        reserved=length or 0,
        details=details,
    )
    try:
        with intake.database.write() as connection:
            change_status(connection, image.id, {QUEUED}, status)
            check_quota(connection, image.owner, {Resource.BYTES: length or 0, Resource.UPLOADS: 1}, intake.quotas)
            begin_upload(connection, record)
            if action is not None:
                intake.note(connection, action, record, size=length)
    except BaseException:
        drop(intake.store, incoming)
        raise
    return record, incoming


def _require_room(intake: Intake, length: int | None) -> None:
    """Raises `TooLarge` or `StoreFull` if `length` bytes (None: not known) can't be kept; `HostFileError`."""
    if length is None:
        return
    if length > intake.most_bytes:
        raise TooLarge(length, intake.most_bytes)
    free = intake.store.free_bytes()
    if length > free:
        raise StoreFull(intake.store.name, length, free)


@contextlib.contextmanager
def told_if_full(store: DirectoryStore) -> Iterator[None]:
    """Raises `StoreFull` where the host says that a disk or a quota is full, and no error that is not cowherd's."""
    try:
        yield
    except (HostFileError, OSError) as error:
        if error.errno in _FULL:
            raise StoreFull(store.name) from error
        if isinstance(error, OSError):
            raise error_of_host(error) from error
        raise


def drop(store: DirectoryStore, incoming: Incoming) -> None:
    """Closes and deletes a file that was arriving."""
    try:
        incoming.close()
    finally:
        store.discard(incoming.name)
