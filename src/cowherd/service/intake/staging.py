"""Bytes that are stored first and judged later, when somebody asks for the import of the image."""

from __future__ import annotations

import msgspec

from cowherd.service.intake.arriving import LONGEST, Arriving, Intake, begin_arriving
from cowherd.service.records.faults import ImageNotFound
from cowherd.service.records.image import Image, now
from cowherd.service.records.images import note_size
from cowherd.service.records.states import UPLOADING
from cowherd.service.records.uploads import UploadRecord, advance_upload, note_details
from cowherd.storage.hostfile import Buffer

STAGE = "stage"
"""The kind of an upload that waits to be imported."""
_IS_WHOLE = "is_whole"
"""Where the details of an upload say that all bytes came that are to be imported, be they none."""


def is_staged(upload: UploadRecord) -> bool:
    """Returns whether all bytes of an upload came, to be imported: they wait for that, or are being imported."""
    return bool(upload.details.get(_IS_WHOLE))


class Staging(Arriving):
    """A body that arrives to be imported later: fed by one thread at a time, until `finish` or `abandon`.

    An error of `feed` or `finish` ends it: all is tidied up when it is raised. They raise what those of `Upload` raise, but
    for `Refused`.
    """

    @classmethod
    def begin(cls, intake: Intake, image: Image, length: int | None = None) -> Staging:
        """Begins to stage bytes for a queued image, which becomes uploading. Raises as `begin_arriving`."""
        record, incoming = begin_arriving(intake, image, length, UPLOADING, STAGE)
        return cls(intake, record, incoming, UPLOADING)

    def feed(self, block: Buffer) -> None:
        """Takes the next bytes."""
        with self._tidying():
            self._count(len(block))
            self._incoming.append(block)

    def finish(self) -> UploadRecord:
        """Called after the last byte: makes all durable. Returns the record, with which `Upload.of_staged` goes on.

        The image stays uploading.
        """
        with self._tidying():
            self._require_all()
            self._incoming.sync()
            expires_at, details = now() + LONGEST, {**self.record.details, _IS_WHOLE: True}
            with self._intake.database.write() as connection:
                if not advance_upload(connection, self.record.id, self.received, expires_at):
                    raise ImageNotFound(self.record.image_id)
                note_details(connection, self.record.id, details)
                note_size(connection, self.record.image_id, self.received)
                self._intake.note(connection, "image.stage", self.record, size=self.received, store=self.record.store)
        self._over = True
        self._incoming.close()
        return msgspec.structs.replace(
            self.record, offset=self.received, reserved=self._reserved, expires_at=expires_at, details=details
        )
