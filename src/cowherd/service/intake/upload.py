"""One body that arrives for an image: hashed, inspected, stored, and only then told of in the records."""

from __future__ import annotations

from pathlib import Path

import msgspec

from cowherd.errors import CowherdError
from cowherd.service.intake.adoption import Arrived, adopt
from cowherd.service.intake.arriving import Arriving, Intake, begin_arriving
from cowherd.service.intake.examining import Examination
from cowherd.service.intake.hashing import BLOCK_BYTES, Digests
from cowherd.service.intake.signatures import verifier_of
from cowherd.service.records.image import Image
from cowherd.service.records.images import change_status
from cowherd.service.records.states import IMPORTING, SAVING, UPLOADING
from cowherd.service.records.uploads import UploadRecord, change_kind
from cowherd.storage.hostfile import Buffer, HostFile
from cowherd.stores.incoming import Incoming

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
        self._image, self._format = image, image.disk_format or ""
        takers = [] if is_stored else [incoming.append]
        signed = (self._verifier.hash,) if self._verifier else ()
        hashes = (*intake.hashes, *signed)
        self._examination = Examination(image, hashes, intake.rules, record.length, intake.bases, takers)

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
        self._examination.feed(block)

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
            image = self._commit(self._examination.finish(self._path, self._settle))
        self._over = True
        self._incoming.close()
        return image

    def _commit(self, arrived: Arrived) -> Image:
        return adopt(self._intake, self.record, self._status, arrived)

    @property
    def _path(self) -> Path:
        return self._intake.store.arriving(self._incoming.name)

    def _stop(self) -> None:
        self._examination.abandon()

    def _settle(self, digests: Digests) -> Digests:
        """Makes the bytes durable, and returns those of the digests that are recorded. Raises `SignatureRefused`."""
        if self._verifier:
            self._verifier.verify(bytes.fromhex(digests.named[self._verifier.hash]))
        self._incoming.sync()
        return digests._replace(named={name: digests.named[name] for name in self._intake.hashes})
