"""One body that arrives for an image: hashed, inspected, stored, and only then told of in the records.

Whatever ends it before that, nothing of the bytes is left, the image is queued again, and its record says why.
"""

from __future__ import annotations

import contextlib
import errno
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from cowherd.errors import CowherdError, HostFileError, error_of_host
from cowherd.service.intake.adoption import Arrived, adopt
from cowherd.service.intake.content import FlatContent
from cowherd.service.intake.faults import LengthDiffers, StoreFull, TooLarge
from cowherd.service.intake.hashing import Hasher
from cowherd.service.intake.inspection import InFlight, Rules
from cowherd.service.intake.stored import inspect_stored
from cowherd.service.records.database import Database
from cowherd.service.records.faults import ImageNotFound, StatusConflict
from cowherd.service.records.image import Image, now
from cowherd.service.records.images import change_status
from cowherd.service.records.states import QUEUED, SAVING
from cowherd.service.records.uploads import UploadRecord, begin_upload, end_upload
from cowherd.storage.hostfile import Buffer
from cowherd.stores.directory import DirectoryStore
from cowherd.stores.incoming import Incoming

BARE = "bare"
"""The container format of images whose bytes are those of the disk; the bytes of others are not looked at."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LONGEST = timedelta(days=1)


@dataclass(frozen=True)
class Intake:
    """Where bytes go, and what is asked of them. `hash_algorithm` is that of `os_hash_algo`; `most_bytes` may an image have."""

    database: Database
    store: DirectoryStore
    rules: Rules = field(default_factory=Rules)
    hash_algorithm: str = "sha512"
    md5: bool = True
    most_bytes: int = 1 << 40

    @property
    def hashes(self) -> tuple[str, ...]:
        """The digests to make beside BLAKE3, by hashlib's names."""
        return ("md5", self.hash_algorithm) if self.md5 else (self.hash_algorithm,)


class Upload:
    """A body that arrives: fed in blocks, best of `BLOCK_BYTES`, by one thread at a time, until `finish` or `abandon`.

    An error of `feed` or `finish` ends it: all is tidied up when it is raised. They raise `Refused`, `LengthDiffers`, `TooLarge`,
    `StoreFull`, `HostFileError` or `HostError`, and what the records raise.
    """

    def __init__(self, intake: Intake, image: Image, record: UploadRecord, incoming: Incoming, status: str):
        """Made by `begin`."""
        self.record, self.received = record, 0
        self._intake, self._image, self._incoming, self._status = intake, image, incoming, status
        is_disk = image.container_format == BARE
        stated = image.disk_format or ""
        self._flight = InFlight(stated, intake.rules, record.length) if is_disk else None
        self._flat = FlatContent() if is_disk and stated == "raw" else None
        takers = (incoming.append, self._flat.take) if self._flat else (incoming.append,)
        self._hasher = Hasher(intake.hashes, *takers)
        self._over = False

    @classmethod
    def begin(
        cls, intake: Intake, image: Image, length: int | None = None, *, status: str = SAVING, kind: str = "file"
    ) -> Upload:
        """Begins an upload for a queued image, which becomes `status`; `length` are the bytes announced (None: none were).

        Raises `TooLarge` or `StoreFull` if that many can't be kept, `StatusConflict` unless the image is queued, `HostFileError`.
        """
        require_room(intake, length)
        with _told_if_full(intake.store):
            incoming = intake.store.begin()
        record = UploadRecord(
            id=str(uuid.uuid4()),
            image_id=image.id,
            kind=kind,
            project=image.owner,
            store=intake.store.name,
            temporary=incoming.name,
            expires_at=now() + _LONGEST,
            length=length,
            reserved=length or 0,
        )
        try:
            with intake.database.write() as connection:
                change_status(connection, image.id, {QUEUED}, status)
                begin_upload(connection, record)
            return cls(intake, image, record, incoming, status)
        except BaseException:
            _drop(intake.store, incoming)
            raise

    def feed(self, block: Buffer) -> None:
        """Takes the next bytes, which nobody may change any more; waits while hashing or the disk is behind."""
        with self._tidying():
            self.received += len(block)
            self._require_length(at_end=False)
            if self._flight:
                self._flight.feed(block)
            self._hasher.feed(block)

    def finish(self) -> Image:
        """Called after the last byte: inspects what is stored, and makes the image active with it; returns its record."""
        with self._tidying():
            self._require_length(at_end=True)
            arrived = self._arrived()
            image = adopt(self._intake.database, self._intake.store, self.record, self._status, arrived)
        self._over = True
        self._incoming.close()
        return image

    def abandon(self, reason: str) -> None:
        """Ends an upload whose bytes no longer come; `reason` is a sentence for the image's record. Abandoning twice is fine."""
        if not self._over:
            self._over = True
            self._hasher.abandon()
            try:
                _drop(self._intake.store, self._incoming)
            finally:
                self._queue_again(reason)

    def _arrived(self) -> Arrived:
        virtual_size = self._flight.finish() if self._flight else None
        digests = self._hasher.finish()
        self._incoming.sync()
        format = self._image.disk_format or ""
        if self._flight is None:
            return Arrived(digests, format, None, None)
        path = self._intake.store.arriving(self._incoming.name)
        found = inspect_stored(path, self._flight.format or "", self._intake.rules.max_virtual_size)
        if self._flat:
            return Arrived(digests, format, virtual_size or None, self._flat.finish())
        if self._flight.format != format:
            return Arrived(digests, format, None, None)
        return Arrived(digests, format, virtual_size or found.virtual_size, found.content)

    def _require_length(self, *, at_end: bool) -> None:
        announced, most = self.record.length, self._intake.most_bytes
        if announced is not None and (self.received > announced or (at_end and self.received < announced)):
            raise LengthDiffers(announced, self.received)
        if self.received > most:
            raise TooLarge(self.received, most)

    @contextlib.contextmanager
    def _tidying(self) -> Iterator[None]:
        """Ends the upload if the block raises."""
        try:
            with _told_if_full(self._intake.store):
                yield
        except CowherdError as error:
            self.abandon(str(error))
            raise
        except BaseException as error:
            self.abandon(f"The upload ended with an error of the service: {type(error).__name__}. Upload the image again")
            raise

    def _queue_again(self, reason: str) -> None:
        with self._intake.database.write() as connection:
            end_upload(connection, self.record.id)
            with contextlib.suppress(ImageNotFound, StatusConflict):  # it was deleted meanwhile, or became active after all
                change_status(connection, self._image.id, {self._status}, QUEUED, reason=reason)


def require_room(intake: Intake, length: int | None) -> None:
    """Raises `TooLarge` or `StoreFull` if `length` bytes (None: not known) can't be kept; `HostFileError`."""
    if length is None:
        return
    if length > intake.most_bytes:
        raise TooLarge(length, intake.most_bytes)
    free = intake.store.free_bytes()
    if length > free:
        raise StoreFull(intake.store.name, length, free)


@contextlib.contextmanager
def _told_if_full(store: DirectoryStore) -> Iterator[None]:
    """Raises `StoreFull` where the host says that a disk or a quota is full, and no error that is not cowherd's."""
    try:
        yield
    except (HostFileError, OSError) as error:
        if error.errno in _FULL:
            raise StoreFull(store.name) from error
        if isinstance(error, OSError):
            raise error_of_host(error) from error
        raise


def _drop(store: DirectoryStore, incoming: Incoming) -> None:
    try:
        incoming.close()
    finally:
        store.discard(incoming.name)
