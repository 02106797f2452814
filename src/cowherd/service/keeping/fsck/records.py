"""Checks what the records say of uploads, images, tasks and lineage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cowherd.service.intake.lineage import having
from cowherd.service.keeping.fsck.report import Finding
from cowherd.service.keeping.recovery import is_dead, queue_stranded, recover, strays
from cowherd.service.records.checks import contentless_images, lapsed_tasks, loose_claims, stranded_images
from cowherd.service.records.database import Database
from cowherd.service.records.faults import LeaseLost
from cowherd.service.records.image import now
from cowherd.service.records.lineage import Claim, set_base
from cowherd.service.records.tasks import Task, finish_task
from cowherd.service.records.uploads import UploadRecord, list_uploads, read_upload
from cowherd.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

PATIENCE = timedelta(hours=1)
"""After how long without a word of its process a task is stuck: until then a service that runs takes it over."""
_KEPT = timedelta(days=2)


@dataclass(frozen=True)
class RecordsCheck:
    """Checks the records; with `repair` it puts right what it can."""

    database: Database
    stores: Mapping[str, DirectoryStore]
    repair: bool

    def run(self) -> Iterator[Finding]:
        """Yields what it finds. Raises `HostFileError`, and what the records raise."""
        yield from self._check_images()  # first, since the repair of uploads queues such images as well
        yield from self._check_uploads()
        yield from self._check_tasks()
        yield from self._check_lineage()

    def _check_uploads(self) -> Iterator[Finding]:
        with self.database.read() as connection:
            uploads = list_uploads(connection)
        dead = [one for one in uploads if is_dead(self.stores.get(one.store), one) and self._is_still_dead(one)]
        left = [(store.name, name) for store in self.stores.values() for name in strays(self.database, store)]
        if self.repair:
            recover(self.database, self.stores)
        for one in dead:
            problem = "nobody brings more of an upload of the image"
            yield Finding("stuck-upload", problem, one.store, image=one.image_id, repaired=self.repair)
        for store_name, name in left:
            yield Finding("stray", f"the file {name} arrived for no upload", store_name, repaired=self.repair)

    def _is_still_dead(self, upload: UploadRecord) -> bool:
        """Returns whether an upload that looked dead is not just becoming a blob, or did since it was listed."""
        store = self.stores.get(upload.store)
        with (
            store.locked(upload.digest) if store and upload.digest else contextlib.nullcontext(),
            self.database.read() as connection,
        ):
            known = read_upload(connection, upload.id)
        return known is not None and known.digest == upload.digest and is_dead(store, known)

    def _check_images(self) -> Iterator[Finding]:
        with self.database.read() as connection:
            stranded, contentless = stranded_images(connection), contentless_images(connection)
        for image_id, status in stranded:
            repaired = self.repair and queue_stranded(self.database, image_id, status)
            yield Finding(
                "stuck-image", f"the image is {status}, and nobody brings its content", image=image_id, repaired=repaired
            )
        for image_id in contentless:
            yield Finding("no-content", "no store is said to have the content of the image: delete it", image=image_id)

    def _check_tasks(self) -> Iterator[Finding]:
        with self.database.read() as connection:
            lapsed = lapsed_tasks(connection, now() - PATIENCE)
        for task in lapsed:
            problem = f"nothing was heard of the process that does the task {task.id} since {task.leased_until}"
            yield Finding("stuck-task", problem, image=task.image_id, repaired=self.repair and self._ends(task))

    def _ends(self, task: Task) -> bool:
        failure = "The process that worked on it ended. Start it again"
        try:
            with self.database.write() as connection:
                finish_task(connection, task.id, task.holder or "", failure=failure, expires_at=now() + _KEPT)
        except LeaseLost:  # another process took it over in between
            return False
        return True

    def _check_lineage(self) -> Iterator[Finding]:
        with self.database.read() as connection:
            loose = [(claim, _bases(connection, claim)) for claim in loose_claims(connection)]
        for claim, bases in loose:
            yield self._loose_finding(claim, bases)

    def _loose_finding(self, claim: Claim, bases: list[str]) -> Finding:
        if not bases:
            problem = f"no image has the content {claim.base_content} that the image stands on: upload it again"
            return Finding("dangling", problem, image=claim.child)
        if self.repair:
            with self.database.write() as connection:
                set_base(connection, claim.child, bases[0])
        return Finding("dangling", f"the image is not said to stand on image {bases[0]}", image=claim.child, repaired=self.repair)


def _bases(connection: Connection, claim: Claim) -> list[str]:
    return [image.id for image in having(connection, claim.base_content)]
