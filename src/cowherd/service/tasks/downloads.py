"""Images that were made to be downloaded, which is the older way to import: they get their content, or they go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cowherd.errors import CowherdError
from cowherd.service.records.events import Event, record_event
from cowherd.service.records.faults import ImageNotFound
from cowherd.service.records.images import delete_image, read_image
from cowherd.service.records.states import QUEUED
from cowherd.service.records.tasks import note_progress

if TYPE_CHECKING:
    from cowherd.service.records.tasks import Task
    from cowherd.service.tasks.imports import Imports

TYPE = "import"
"""The type of these tasks."""
SOURCE = "import_from"
"""Where the input of such a task keeps the address of the content."""
_FAILURE = "failure"
"""Where the progress of a task keeps why it failed, once its image is deleted."""
_OF_THE_SERVICE = "An error of the service ended the import. Ask for it again"


class DownloadFailed(CowherdError):
    """A download failed for `reason`, and the process was killed before the task could say so."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Downloads:
    """Downloads what becomes the content of images, into `store`. Each image was recorded with its task."""

    imports: Imports
    store: str

    def run(self, task: Task) -> dict[str, Any]:
        """Gives the image of one task its content; returns the result for the task's record.

        If that fails, the image is deleted, as nobody waits for it: whoever asked for it knows the task.
        """
        image_id = task.image_id or ""
        if _FAILURE in task.progress:
            raise DownloadFailed(task.progress[_FAILURE])
        try:
            self.imports.import_url(task, image_id, task.input[SOURCE], self.store)
        except Exception as error:
            self._delete(task, image_id, str(error) if isinstance(error, CowherdError) else _OF_THE_SERVICE)
            raise
        return {"image_id": image_id}

    def _delete(self, task: Task, image_id: str, reason: str) -> None:
        """Deletes an image that waits for content, and notes why. One that somebody gives other content stays."""
        with self.imports.database.write() as connection:
            try:
                image = read_image(connection, image_id)
            except ImageNotFound:  # somebody was faster
                return
            if image.status != QUEUED:
                return
            task.progress[_FAILURE] = reason
            note_progress(connection, task.id, task.progress)
            delete_image(connection, image_id)
            detail = {"name": image.name, "blob": None, "task": task.id}
            record_event(connection, Event(action="image.delete", project=image.owner, image_id=image_id, detail=detail))
