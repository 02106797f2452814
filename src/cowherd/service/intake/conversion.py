"""Imported images are converted to one format, if that is asked for: by cowherd's own engine, in a process with limits.

What arrived is hashed, verified and inspected as if it were to stay. What comes of it is hashed and inspected in its turn, and
becomes the content; only then what arrived goes. What can't be read here stays as it is, and so does what would lose its meaning:
an overlay, which would no longer stand on its base, and a signed image, since other bytes were signed.
"""

from __future__ import annotations

import errno
import tempfile
from dataclasses import replace
from pathlib import Path

import msgspec

from cowherd.errors import HostFileError
from cowherd.formats import registry
from cowherd.service.intake.adoption import Arrived
from cowherd.service.intake.arriving import drop
from cowherd.service.intake.examining import BARE
from cowherd.service.intake.faults import TooLarge
from cowherd.service.intake.processes.limited import MEMORY, SECONDS, Job, Limits, run_limited
from cowherd.service.intake.upload import Upload
from cowherd.service.records.image import Image
from cowherd.stores.incoming import Incoming

_JOB = Job("cowherd.service.intake.processes.converter", "conversion", "converted")
_BYTES_A_SECOND = 64 << 20
"""Bytes of a disk for which a conversion may take a second of processor time more: damaged and tiny clusters take longest."""


class Converting(Upload):
    """An upload of an image that is converted to the format that the intake asks for, and is active with the result.

    `finish` also raises `Refused` with the check "conversion" for an image that can't be converted, and `TooLarge` and
    `QuotaExceeded` for the result.
    """

    def _commit(self, arrived: Arrived) -> Image:
        asked = self._intake.conversion
        if asked is None or not self._is_converted(arrived, asked.format):
            return super()._commit(arrived)
        format, size = asked.format, arrived.virtual_size or 0
        self._require_room(format, size)
        asked.tell(f"The image is being converted from {self._format} to {format}")
        again = self._converted(format, size)
        try:
            again.feed_staged()
            return again.finish()
        finally:
            self._over = True  # `again` has made the image active with the result, or queued it again
            self._stop()
            drop(self._intake.store, self._incoming)

    def _is_converted(self, arrived: Arrived, format: str) -> bool:
        can_be_read = self._image.container_format == BARE and registry.named(self._format).is_known
        loses_nothing = self._verifier is None and arrived.bound_to is None
        return can_be_read and loses_nothing and self._format != format

    def _require_room(self, format: str, size: int) -> None:
        """Reserves what the result will have, if that is known: a raw disk has the bytes of the disk."""
        if not registry.named(format).verbatim:
            return
        if size > self._intake.most_bytes:
            raise TooLarge(size, self._intake.most_bytes)
        if size > self._reserved:
            with self._intake.database.write() as connection:
                self._reserve(connection, size)

    def _converted(self, format: str, size: int) -> Upload:
        """Converts what is stored into a file of its own; returns the upload of that, which owns it."""
        store = self._intake.store
        result = store.begin()
        try:
            convert_stored(self._path, self._format, store.arriving(result.name), format, size, self._intake.most_bytes)
            result.seek_end()
            return self._upload_of(result, format)
        except BaseException:
            drop(store, result)
            raise

    def _upload_of(self, result: Incoming, format: str) -> Upload:
        """Makes an upload of a file that is there. It goes on with the record of this one."""
        length = result.offset
        record = msgspec.structs.replace(
            self.record, temporary=result.name, length=length, offset=length, reserved=self._reserved
        )
        image = msgspec.structs.replace(self._image, disk_format=format)
        return Upload(replace(self._intake, bases=None), image, record, result, self._status, is_stored=True)


def convert_stored(
    source: Path,
    source_format: str,
    target: Path,
    target_format: str,
    size: int,
    most: int,
    *,
    memory: int = MEMORY,
    seconds: int = SECONDS,
) -> None:
    """Converts an image with a disk of `size` bytes into a file that is there, and empty; that is to have at most `most` bytes.

    Raises `Refused` if it can't be converted within its limits: `memory` (bytes), and `seconds` (of processor time) with some
    more for a large disk. Raises `TooLarge`, and `HostFileError`, as for a disk that is full.
    """
    seconds += size // _BYTES_A_SECOND if seconds else 0
    try:
        with tempfile.TemporaryFile() as answer:
            run_limited(_JOB, Limits(memory, seconds, most), source, (source_format, target, target_format), answer)
    except HostFileError as error:
        if error.errno == errno.EFBIG:
            raise TooLarge(most + 1, most) from error
        raise
