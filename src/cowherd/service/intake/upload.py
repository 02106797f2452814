"""One body that arrives for an image: hashed, inspected, stored, and only then told of in the records."""

from __future__ import annotations

from pathlib import Path

import msgspec

from cowherd.errors import CowherdError
from cowherd.formats import registry
from cowherd.service.intake.adoption import Arrived, adopt
from cowherd.service.intake.arriving import Arriving, Intake, begin_arriving
from cowherd.service.intake.content import FlatContent
from cowherd.service.intake.hashing import BLOCK_BYTES, Digests, Hasher, Take
from cowherd.service.intake.inspection import InFlight
from cowherd.service.intake.signatures import verifier_of
from cowherd.service.intake.stored import inspect_stored
from cowherd.service.records.image import Image
from cowherd.service.records.images import change_status
from cowherd.service.records.states import IMPORTING, SAVING, UPLOADING
from cowherd.service.records.uploads import UploadRecord, change_kind
from cowherd.storage.hostfile import Buffer, HostFile
from cowherd.stores.incoming import Incoming

BARE = "bare"
"""The container format of images whose bytes are those of the disk; the bytes of others are not looked at."""
FILE = "file"
"""The kind of an upload that ends with its request."""
IMPORT = "import"
"""The kind of one that ends with the work that imports it."""


class Upload(Arriving):
    """A body that arrives: fed in blocks, best of `BLOCK_BYTES`, by one thread at a time, until `finish` or `abandon`.

    An error of `feed` or `finish` ends it: all is tidied up when it is raised. They raise `Refused`, `SignatureRefused`,
    `LengthDiffers`, `TooLarge`, `StoreFull`, `HostFileError` or `HostError`, and what the records raise.
    """

    def __init__(
        self, intake: Intake, image: Image, record: UploadRecord, incoming: Incoming, status: str, *, is_stored: bool = False
    ):
        """Takes over the file; `is_stored`: it has the bytes already that are fed. Raises `SignatureRefused`."""
        self._verifier = verifier_of(image.properties, intake.certificates)
        super().__init__(intake, record, incoming, status)
        self._image = image
        is_disk = image.container_format == BARE
        self._format = image.disk_format or ""
        self._flight = InFlight(self._format, intake.rules, record.length, intake.bases) if is_disk else None
        self._flat = FlatContent() if is_disk and registry.named(self._format).verbatim else None
        self._takers: list[Take] = [] if is_stored else [incoming.append]
        if self._flat:
            self._takers.append(self._flat.take)
        signed = (self._verifier.hash,) if self._verifier else ()
        self._hasher = Hasher((*intake.hashes, *signed), self._take_in_turn)

    @classmethod
    def begin(cls, intake: Intake, image: Image, length: int | None = None, *, status: str = SAVING, kind: str = FILE) -> Upload:
        """Begins an upload for a queued image, which becomes `status`.

        Raises as `begin_arriving`, and `SignatureRefused` for a signature that can't be verified, whatever the bytes.
        """
        record, incoming = begin_arriving(intake, image, length, status, kind)
        return cls._of(intake, image, record, incoming, status)

    @classmethod
    def of_staged(cls, intake: Intake, image: Image, record: UploadRecord) -> Upload:
        """Begins to import what was staged as `record` for an image, which becomes importing; go on with `feed_staged`.

        Raises `StatusConflict` unless the image is uploading, `StillArriving`, `HostFileError`, `SignatureRefused`.
        """
        incoming = intake.store.resume(record.temporary or "", record.offset)
        try:
            with intake.database.write() as connection:
                change_status(connection, image.id, {UPLOADING}, IMPORTING)
                change_kind(connection, record.id, IMPORT)
        except BaseException:
            incoming.close()
            raise
        staged = msgspec.structs.replace(record, length=record.offset, kind=IMPORT)
        return cls._of(intake, image, staged, incoming, IMPORTING, is_stored=True)

    @classmethod
    def _of(
        cls, intake: Intake, image: Image, record: UploadRecord, incoming: Incoming, status: str, *, is_stored: bool = False
    ) -> Upload:
        """Makes an upload; if that fails, the image is queued again."""
        try:
            return cls(intake, image, record, incoming, status, is_stored=is_stored)
        except BaseException as error:
            said = str(error) if isinstance(error, CowherdError) else "The service could not take the upload. Upload it again"
            Arriving(intake, record, incoming, status).abandon(said)
            raise

    def feed(self, block: Buffer) -> None:
        """Takes the next bytes, which nobody may change any more; waits while hashing or the disk is behind."""
        with self._tidying():
            self._take(block)

    def _take(self, block: Buffer) -> None:
        self._count(len(block))
        if self._flight:
            self._flight.feed(block)
        self._hasher.feed(block)

    def feed_staged(self) -> None:
        """Takes all bytes from the file that has them already. Raises as `feed`."""
        size = self.record.offset
        with self._tidying(), HostFile.open(self._path, lock=None, follow=False) as file:
            for begin in range(0, size, BLOCK_BYTES):
                self.feed(file.pread(begin, min(BLOCK_BYTES, size - begin)))

    def finish(self) -> Image:
        """Called after the last byte: inspects what is stored, and makes the image active with it; returns its record."""
        with self._tidying():
            self._require_all()
            image = self._commit(self._arrived())
        self._over = True
        self._incoming.close()
        return image

    def _commit(self, arrived: Arrived) -> Image:
        intake = self._intake
        return adopt(intake.database, intake.store, self.record, self._status, arrived, intake.bases)

    @property
    def _path(self) -> Path:
        return self._intake.store.arriving(self._incoming.name)

    def _take_in_turn(self, block: Buffer) -> None:
        """Called with each block in a thread beside those that hash: together this takes less time than the slowest digest."""
        for take in self._takers:
            take(block)

    def _stop(self) -> None:
        self._hasher.abandon()

    def _arrived(self) -> Arrived:
        virtual_size = self._flight.finish() if self._flight else None
        digests = self._verified(self._hasher.finish())
        self._incoming.sync()
        if self._flight is None:
            return Arrived(digests, self._format, None, None)
        most, below = self._intake.rules.max_virtual_size, self._flight.below
        found = inspect_stored(self._path, self._flight.format or "", most, below=below)
        if self._flat:
            return Arrived(digests, self._format, virtual_size or None, self._flat.finish())
        if self._flight.format != self._format:
            return Arrived(digests, self._format, None, None)
        bound_to = self._flight.content_below
        return Arrived(digests, self._format, virtual_size or found.virtual_size, found.content, bound_to)

    def _verified(self, digests: Digests) -> Digests:
        """Returns those of the digests that are recorded. Raises `SignatureRefused`."""
        if self._verifier:
            self._verifier.verify(bytes.fromhex(digests.named[self._verifier.hash]))
        return digests._replace(named={name: digests.named[name] for name in self._intake.hashes})
