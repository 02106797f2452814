"""Uploads that go on over many requests, processes and restarts of the service, at the last byte that is durable.

What arrives is only appended to a file. A thread reads behind it, to hash and inspect the bytes while the rest arrives; a process
that goes on with an upload of which it saw nothing reads from the first byte. So no state of a hash has to be kept.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cowherd.service.intake.arriving import LONGEST, Arriving, begin_arriving
from cowherd.service.intake.faults import DigestsDiffer, LengthDiffers, OffsetDiffers, Refused, SignatureRefused
from cowherd.service.intake.hashing import BLOCK_BYTES
from cowherd.service.intake.signatures import verifier_of
from cowherd.service.intake.upload import Upload
from cowherd.service.records.failures import telling_why
from cowherd.service.records.faults import ImageNotFound, StatusConflict
from cowherd.service.records.image import now
from cowherd.service.records.states import UPLOADING
from cowherd.service.records.uploads import UploadRecord, advance_upload, read_upload
from cowherd.storage.hostfile import HostFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cowherd.service.intake.arriving import Intake
    from cowherd.service.records.events import Author
    from cowherd.service.records.image import Image
    from cowherd.storage.hostfile import Buffer
    from cowherd.stores.incoming import Incoming

RESUMABLE = "resumable"
"""The kind of an upload that outlives the requests that bring it."""
MOST_IDLE = 16
"""How many uploads a process keeps its threads for between requests."""
_STEP = 128 << 20
"""Bytes after which what has come is made durable amid a request."""
_FINAL = (Refused, SignatureRefused, ImageNotFound, StatusConflict)
"""Errors that no retry gets past."""


class Checksum(NamedTuple):
    """What the bytes of one request must hash to: a name of hashlib's, and the digest."""

    algorithm: str
    digest: bytes


def begin_resumable(intake: Intake, image: Image, length: int, details: dict[str, Any]) -> UploadRecord:
    """Makes the file and the record of an upload of `length` bytes; the queued image becomes uploading until they are there.

    Raises as `begin_arriving`, and `SignatureRefused` for a signature that can't be verified, whatever the bytes.
    """
    with telling_why(intake.database, image.id, SignatureRefused):
        verifier_of(image.properties, intake.certificates)  # so that nobody sends in vain what is refused at the end
    record, incoming = begin_arriving(intake, image, length, UPLOADING, RESUMABLE, details, "image.upload-begin")
    try:
        incoming.sync()
        incoming.close()
    except BaseException:
        Arriving(intake, record, incoming, UPLOADING).abandon("The service could not begin the upload. Upload the image again")
        raise
    return record


def end_resumable(intake: Intake, record: UploadRecord, reason: str, action: str | None = None) -> None:
    """Ends an upload: its bytes go, and its image is queued again, with `reason` in its record.

    `action` is that of an event if somebody asked for it. Raises `StillArriving` while a request brings bytes for it.
    """
    incoming = intake.store.resume(record.temporary or "")
    Arriving(intake, record, incoming, UPLOADING).abandon(reason, action)


class Resumable(Upload):
    """An upload that this process works on. One request at a time calls `go_on`, `append`, `keep`, and `rest` or `finish`.

    An error ends the work of this process, and what is durable waits for another request: unless no retry can get past the
    error, as with `Refused`. Then nothing is left of the upload, the image is queued again, and its record says why.
    """

    def __init__(self, intake: Intake, image: Image, record: UploadRecord, incoming: Incoming):
        """Takes over the file, which has the bytes that are durable."""
        super().__init__(intake, image, record, incoming, UPLOADING, is_stored=True)
        self.durable = incoming.offset
        """How many bytes are durable."""
        self._checksum: Checksum | None = None
        self._summing: Any = None
        try:
            self._behind = _Behind(self._path, self._take)
        except BaseException:
            super()._stop()
            raise

    def go_on(self, incoming: Incoming, checksum: Checksum | None, author: Author | None) -> None:
        """Takes over the file again, at the last durable byte, for the bytes of a request that may have a checksum.

        `author` is who sends it: not always who began.
        """
        self._intake = replace(self._intake, author=author)
        self._incoming, self._checksum, self.durable = incoming, checksum, incoming.offset
        self._summing = hashlib.new(checksum.algorithm, usedforsecurity=False) if checksum else None
        with self._tidying():
            self._behind.allow(self.durable)

    def append(self, block: Buffer) -> None:
        """Appends the next bytes. Raises `Refused`, `LengthDiffers`, `StoreFull`, `HostFileError`."""
        with self._tidying():
            end = self._incoming.offset + len(block)
            if end > (self.record.length or 0):
                raise LengthDiffers(self.record.length or 0, end)
            self._incoming.append(block)
            if self._summing:
                self._summing.update(block)
                return
            self._behind.allow(end)
            if end - self.durable >= _STEP:
                self._keep()

    def keep(self, *, whole: bool) -> None:
        """Makes what has come durable. `whole`: the request sent all that it had.

        Of a request with a checksum nothing is kept unless it came whole, and the checksum is right: `DigestsDiffer` is raised if
        it is not. Raises `Refused`, `HostFileError` and what the records raise.
        """
        with self._tidying():
            good = self._checksum is None or (whole and hmac.compare_digest(self._summing.digest(), self._checksum.digest))
            if not good:
                self._incoming.cut_back(self.durable)
            self._behind.allow(self._incoming.offset)
            self._keep()
        if self._checksum and whole and not good:
            raise DigestsDiffer(self._checksum.algorithm)

    def rest(self) -> None:
        """Gives the file up until the next request."""
        self._incoming.close()

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are there."""
        return self.durable == self.record.length

    @property
    def is_over(self) -> bool:
        """Whether nothing can be appended any more."""
        return self._over

    def finish(self) -> Image:
        """Called when all bytes are durable: waits until they are judged, and makes the image active."""
        with self._tidying():
            self._behind.wait()
        return super().finish()

    def forget(self) -> None:
        """Ends the work of this process; what is durable waits for another."""
        self._over = True
        self._stop()
        self._incoming.close()

    def _keep(self) -> None:
        self._behind.require_fine()
        if self._incoming.offset == self.durable:
            return
        self._incoming.sync()
        expires_at = now() + LONGEST
        with self._intake.database.write() as connection:
            if not advance_upload(connection, self.record.id, self._incoming.offset, expires_at):
                raise ImageNotFound(self.record.image_id)
        self.durable = self._incoming.offset
        self.record = msgspec.structs.replace(self.record, offset=self.durable, expires_at=expires_at)

    def _end(self, error: BaseException, reason: str) -> None:
        """Keeps what is durable, unless no retry can get past the error, or the file is a blob already."""
        if isinstance(error, _FINAL) or not self._path.exists():
            self.abandon(reason)
        else:
            self.forget()

    def _stop(self) -> None:
        self._behind.stop()
        super()._stop()


class _Behind:
    """A thread that reads a file as far as it may, and gives each block to `take`."""

    def __init__(self, path: Path, take: Callable[[Buffer], None]):
        self._path, self._take = path, take
        self._limit, self._done = 0, 0
        self._stopping = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)  # a process that ends does not wait for it
        self._thread.start()

    def allow(self, limit: int) -> None:
        """Lets it read up to `limit`; what lies before may not change any more."""
        with self._changed:
            self._limit = limit
            self._changed.notify_all()
        self.require_fine()

    def wait(self) -> None:
        """Waits until all that it may read is taken, and ends it. Raises what `take` raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._done >= self._limit or self._error is not None)
        self.stop()
        self.require_fine()

    def require_fine(self) -> None:
        """Raises what `take` raised."""
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Ends the thread. Stopping twice is fine."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            with HostFile.open(self._path, lock=None, follow=False) as file:
                while (end := self._next()) is not None:
                    for begin in range(self._done, end, BLOCK_BYTES):
                        if self._stopping:
                            return
                        self._take(file.pread(begin, min(BLOCK_BYTES, end - begin)))
                    self._tell(end)
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that appends
            self._error = error
            self._tell(self._done)

    def _next(self) -> int | None:
        """Waits until there is something to read, and returns where it ends; None when it shall stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._limit > self._done)
            return None if self._stopping else self._limit

    def _tell(self, done: int) -> None:
        with self._changed:
            self._done = done
            self._changed.notify_all()


class Sessions:
    """The uploads whose bytes this process hashes; those without a request are forgotten when there are too many."""

    def __init__(self) -> None:
        self._idle: OrderedDict[str, Resumable] = OrderedDict()
        self._lock = threading.Lock()

    def take(
        self, intake: Intake, image: Image, record: UploadRecord, offset: int, checksum: Checksum | None = None
    ) -> Resumable:
        """Returns an upload that is ready to append at `offset`; give it back, or end it.

        Raises `StillArriving` while another request brings bytes for it, `OffsetDiffers` if it goes on elsewhere, `ImageNotFound`
        if it has ended.
        """
        incoming = intake.store.resume(record.temporary or "")
        try:
            # Only who holds the file knows how much of it counts: another process may have gone on with it since.
            with intake.database.read() as connection:
                known = read_upload(connection, record.id)
            if known is None:
                raise ImageNotFound(record.image_id)
            if offset != known.offset:
                raise OffsetDiffers(known.offset, offset)
            incoming.cut_back(known.offset)
            session = self._of(intake, image, known, incoming)
            session.go_on(incoming, checksum, intake.author)
        except BaseException:
            incoming.close()
            raise
        return session

    def give_back(self, session: Resumable) -> None:
        """Keeps an upload for its next request."""
        if session.is_over:
            return
        session.rest()
        with self._lock:
            self._idle[session.record.id] = session
            dropped = self._idle.popitem(last=False)[1] if len(self._idle) > MOST_IDLE else None
        if dropped:
            dropped.forget()

    def forget(self, upload_id: str) -> None:
        """Ends the work on an upload that waits for a request."""
        with self._lock:
            session = self._idle.pop(upload_id, None)
        if session:
            session.forget()

    def close(self) -> None:
        """Ends the work on all uploads that wait for a request."""
        for upload_id in list(self._idle):
            self.forget(upload_id)

    def _of(self, intake: Intake, image: Image, record: UploadRecord, incoming: Incoming) -> Resumable:
        with self._lock:
            session = self._idle.pop(record.id, None)
        if session is not None:  # behind `record` if another process went on since, never ahead: offsets only grow
            return session
        return Resumable(intake, image, record, incoming)
