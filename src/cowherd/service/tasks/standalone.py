"""Makes images that stand on nothing: raw disks with what a guest sees of an overlay, for those who take no overlays."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cowherd.errors import CowherdError
from cowherd.service.intake.content import FlatContent
from cowherd.service.intake.hashing import BLOCK_BYTES
from cowherd.service.intake.lineage import chain_of
from cowherd.service.intake.upload import IMPORT, Upload
from cowherd.service.keeping.faults import ContentDamaged
from cowherd.service.records.failures import telling_why
from cowherd.service.records.images import read_image
from cowherd.service.records.lineage import content_of
from cowherd.service.records.states import IMPORTING
from cowherd.storage.hostfile import HostFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cowherd.image.disk import Disk
    from cowherd.service.intake.arriving import Intake
    from cowherd.service.records.database import Database
    from cowherd.service.records.image import Image
    from cowherd.service.records.tasks import Task
    from cowherd.stores.directory import DirectoryStore

TYPE = "standalone"
"""The type of these tasks."""
_DAMAGED = "What a guest sees of the image, with what it stands on, is not what it was: see 'cowherd serve --fsck'"
_FAILED = "The image that it was to be made from could not be read"


@dataclass(frozen=True)
class Standalones:
    """Makes them. `intake_of` gives where content goes for the name of a store."""

    database: Database
    stores: Mapping[str, DirectoryStore]
    intake_of: Callable[[str], Intake]

    def run(self, task: Task) -> dict[str, Any]:
        """Gives the queued image of a task the content of the image that its input names; returns the result for its record.

        If that fails, the image says why, too.
        """
        image_id = task.image_id or ""
        with ExitStack() as stack:
            with telling_why(self.database, image_id, CowherdError):
                source, content, disk = self._opened(task.input["image_id"], stack)
            with self.database.read() as connection:
                target = read_image(connection, image_id)
            intake = self.intake_of(task.input["store"])
            upload = Upload.begin(intake, target, disk.size, status=IMPORTING, kind=IMPORT)
            _feed(upload, disk, source, content)
        return {"image_id": target.id}

    def _opened(self, image_id: str, stack: ExitStack) -> tuple[Image, str | None, Disk]:
        """Returns an image, the digest of its content, and its disk, which `stack` closes."""
        from cowherd.image.open import disk_of  # with numpy, which every process of the service would hold for this alone

        with self.database.read() as connection:
            source = read_image(connection, image_id)
            chain, content = chain_of(connection, self.stores, source), content_of(connection, source.id)
        files = [(stack.enter_context(HostFile.open(one.path, lock=None)), one.format) for one in chain]
        return source, content, stack.enter_context(disk_of(files))


def _feed(upload: Upload, disk: Disk, source: Image, content: str | None) -> None:
    """Uploads what a guest sees of a disk, if it is the content that `source` is recorded with. Raises `ContentDamaged`."""
    seen = FlatContent()
    try:
        for begin in range(0, disk.size, BLOCK_BYTES):
            block = disk.read(begin, min(BLOCK_BYTES, disk.size - begin))
            seen.take(block)
            upload.feed(block)
        if seen.finish().content_digest.hex() != content:
            raise ContentDamaged(source.blob or "", _DAMAGED)
        upload.finish()
    except ContentDamaged as error:
        upload.abandon(str(error))
        raise
    except BaseException:
        upload.abandon(_FAILED)  # which does nothing if the upload has ended itself
        raise
