"""Imports: what was staged or is fetched becomes the content of its image, and contents are copied to more stores."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from cowherd.errors import CowherdError
from cowherd.service.intake.arriving import Conversion
from cowherd.service.intake.conversion import Converting
from cowherd.service.intake.lineage import Bases
from cowherd.service.intake.staging import STAGE
from cowherd.service.intake.upload import IMPORT
from cowherd.service.keeping.recovery import recover
from cowherd.service.policy.personas import Caller, Persona
from cowherd.service.records.blobs import WHOLE, images_with_blob
from cowherd.service.records.failures import telling_why
from cowherd.service.records.faults import ImageNotFound
from cowherd.service.records.images import read_image, update_image
from cowherd.service.records.places import forget_place, places_of
from cowherd.service.records.states import ACTIVE, IMPORTING
from cowherd.service.records.tasks import MESSAGE, note_progress
from cowherd.service.records.uploads import list_uploads
from cowherd.service.tasks.addresses import Addresses, AddressRefused
from cowherd.service.tasks.copying import copy_blob
from cowherd.service.tasks.fetching import FetchFailed, fetch
from cowherd.service.tasks.regions import RegionUnknown, RemoteImage, TokenGone, taken_over
from cowherd.stores.faults import BlobMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from cowherd.service.intake.arriving import Intake
    from cowherd.service.records.database import Database
    from cowherd.service.records.image import Image
    from cowherd.service.records.tasks import Task
    from cowherd.service.records.uploads import UploadRecord
    from cowherd.service.tasks.fetching import Fetched
    from cowherd.service.tasks.regions import EndpointOf
    from cowherd.stores.directory import DirectoryStore

TYPE = "api_image_import"
"""The type of these tasks."""
GLANCE_DIRECT, WEB_DOWNLOAD, COPY_IMAGE = "glance-direct", "web-download", "copy-image"
GLANCE_DOWNLOAD = "glance-download"
TOKEN = "token"
"""Where the progress of a task keeps the token with which it asks another service, until it ends."""
TASK_PROPERTY = "os_glance_import_task"
LEFT_PROPERTY, FAILED_PROPERTY = "os_glance_importing_to_stores", "os_glance_failed_import"
_UNREACHABLE = (AddressRefused, FetchFailed, RegionUnknown, TokenGone)
"""Errors by which nothing could be fetched at all."""


class NothingStaged(CowherdError):
    """An import has nothing to import. Attributes: `image_id`."""

    def __init__(self, image_id: str):
        self.image_id = image_id

    def __str__(self) -> str:
        return f"nothing is staged for image {self.image_id} any more; stage its content again"


@dataclass(frozen=True)
class Imports:
    """Carries imports out. `intake_of` gives where the content goes for the name of a store."""

    database: Database
    stores: Mapping[str, DirectoryStore]
    intake_of: Callable[[str], Intake]
    addresses: Addresses
    endpoint_of: EndpointOf
    """Gives the address of an image service for a token, a region and an interface."""
    convert: str = ""
    """The format that images are converted to, "" for none."""

    def run(self, task: Task) -> dict[str, Any]:
        """Carries one import out, and returns the result for its record. What is left to do is told in the image's properties."""
        image_id, targets = task.image_id or "", list(task.input["backend"])
        asked = task.input["import_req"]
        try:
            taken_in = self._take_in(task, image_id, targets)
            self._copy(image_id, targets, bool(asked.get("all_stores_must_succeed", True)))
            if taken_in is not None and taken_in not in targets:
                self._take_out(image_id, taken_in)
        finally:
            self._note(image_id, {TASK_PROPERTY: None})
        return {"image_id": image_id}

    def import_url(self, task: Task, image_id: str, url: str, store: str) -> None:
        """Makes what lies at a URL the content of a queued image, in one store; again if a process was killed in the middle.

        Raises `AddressRefused`, `FetchFailed`, and as an upload does; the image is queued then, and says why.
        """
        self._put_right(image_id)
        self._import_fetched(task, image_id, lambda: fetch(url, self.addresses), store)

    def _take_in(self, task: Task, image_id: str, targets: Sequence[str]) -> str | None:
        """Gives the image its content; returns in which store, None if the image has it already.

        If that fails, none of the stores gets it, which is told.
        """
        method = task.input["import_req"]["method"]
        try:
            self._put_right(image_id)
            if method["name"] == GLANCE_DIRECT:
                return self._import_staged(task, image_id, targets)
            if method["name"] == WEB_DOWNLOAD:
                self._import_fetched(task, image_id, lambda: fetch(method["uri"], self.addresses), targets[0])
            elif method["name"] == GLANCE_DOWNLOAD:
                self._import_from_region(task, image_id, targets[0])
            else:
                return None
        except Exception:
            self._note(image_id, {LEFT_PROPERTY: "", FAILED_PROPERTY: ",".join(targets)})
            raise
        return targets[0]

    def _put_right(self, image_id: str) -> None:
        """Ends what a process left that was killed in the middle of this import: it is done again, from what was staged."""
        with self.database.read() as connection:
            left = read_image(connection, image_id).status == IMPORTING
        if left:
            recover(self.database, self.stores)

    def _intake(self, task: Task, store: str) -> Intake:
        """Returns where content goes; overlays may stand on what the project may see that asked for the import."""
        caller = Caller(task.user_id, task.owner, frozenset((Persona.MEMBER,)))
        bases = Bases(self.database, self.stores, caller)
        conversion = Conversion(self.convert, lambda said: self._tell(task, said)) if self.convert else None
        return replace(self.intake_of(store), bases=bases, conversion=conversion)

    def _tell(self, task: Task, said: str) -> None:
        """Has the task say what is being done."""
        task.progress[MESSAGE] = said
        with self.database.write() as connection:
            note_progress(connection, task.id, task.progress)

    def _import_staged(self, task: Task, image_id: str, targets: Sequence[str]) -> str:
        """Makes what was staged the content; returns in which store it is."""
        with self.database.read() as connection:
            image = read_image(connection, image_id)
            staged = [one for one in list_uploads(connection, image_id=image_id) if one.kind == STAGE]
        if _is_done(image):
            return _first_not_in(image.stores, targets)
        if not staged or not self._has_file(staged[0]):
            recover(self.database, self.stores)  # so that the image does not go on saying that something is staged
            raise NothingStaged(image_id)
        upload = Converting.of_staged(self._intake(task, staged[0].store), image, staged[0])
        upload.feed_staged()
        upload.finish()
        return staged[0].store

    def _has_file(self, upload: UploadRecord) -> bool:
        store = self.stores.get(upload.store)
        return store is not None and store.arrived(upload.temporary or "") is not None

    def _import_from_region(self, task: Task, image_id: str, store: str) -> None:
        method, token = task.input["import_req"]["method"], task.progress.get(TOKEN)
        with telling_why(self.database, image_id, *_UNREACHABLE):
            if token is None:
                raise TokenGone
            endpoint = self.endpoint_of(token, method["glance_region"], method.get("glance_service_interface", "public"))
            remote = RemoteImage(endpoint, method["glance_image_id"], token)
            formats, properties = taken_over(remote.record())
            with self.database.write() as connection:
                image = read_image(connection, image_id)
                update_image(connection, msgspec.structs.replace(image, **formats, properties={**image.properties, **properties}))
        self._import_fetched(task, image_id, remote.content, store)

    def _import_fetched(
        self, task: Task, image_id: str, fetching: Callable[[], AbstractContextManager[Fetched]], store: str
    ) -> None:
        with self.database.read() as connection:
            image = read_image(connection, image_id)
        if _is_done(image):
            return
        with contextlib.ExitStack() as stack:
            with telling_why(self.database, image_id, *_UNREACHABLE):
                fetched = stack.enter_context(fetching())
            upload = Converting.begin(self._intake(task, store), image, fetched.length, status=IMPORTING, kind=IMPORT)
            try:
                for block in fetched.blocks():
                    upload.feed(block)
            except FetchFailed as error:
                upload.abandon(str(error))
                raise
            upload.finish()

    def _copy(self, image_id: str, targets: Sequence[str], all_must_succeed: bool) -> None:
        """Copies the content to those of the stores that do not have it. A store that fails is told in the image's properties."""
        left, failed = list(targets), []
        for name in targets:
            with self.database.read() as connection:
                image = read_image(connection, image_id)
            try:
                if name not in image.stores:
                    self._copy_to(image, name)
            except CowherdError:
                failed.append(name)
                if all_must_succeed:
                    self._note(image_id, {LEFT_PROPERTY: "", FAILED_PROPERTY: ",".join(left)})
                    raise
            left.remove(name)
            self._note(image_id, {LEFT_PROPERTY: ",".join(left), FAILED_PROPERTY: ",".join(failed)})

    def _copy_to(self, image: Image, name: str) -> None:
        digest = image.blob or ""
        for source in image.stores:
            if source in self.stores:
                copy_blob(self.database, self.stores[source], self.stores[name], digest)
                return
        raise BlobMissing(name, digest)

    def _take_out(self, image_id: str, name: str) -> None:
        """Removes the content from a store that was not asked for, if another store has it whole and no other image wants it."""
        with self.database.read() as connection:
            digest = read_image(connection, image_id).blob or ""
        store = self.stores[name]
        with store.locked(digest):
            with self.database.write() as connection:
                elsewhere = any(one.state == WHOLE for one in places_of(connection, digest) if one.store != name)
                if not elsewhere or images_with_blob(connection, digest) != [image_id]:
                    return
                forget_place(connection, digest, name)
            store.remove(digest)

    def _note(self, image_id: str, told: Mapping[str, str | None]) -> None:
        """Sets properties of an image; None removes one. That the image was deleted meanwhile is no error: it is told nobody."""
        with self.database.write() as connection:
            try:
                image = read_image(connection, image_id)
            except ImageNotFound:
                return
            told = {**image.properties, **told}
            kept = {name: value for name, value in told.items() if value is not None}
            update_image(connection, msgspec.structs.replace(image, properties=kept))


def _is_done(image: Image) -> bool:
    """Tells whether an image has its content already: a process gave it that, and was killed before it could say so."""
    return image.status == ACTIVE and bool(image.stores)


def _first_not_in(stores: Sequence[str], targets: Sequence[str]) -> str:
    """Returns the first of `stores` that is none of `targets`, the first one at all if all are."""
    return next((name for name in stores if name not in targets), stores[0])
