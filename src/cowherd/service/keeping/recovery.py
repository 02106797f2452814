"""Puts right what processes left that ended in the middle of uploads.

Whoever appends to a file that arrives holds it (`DirectoryStore.is_held`), and the kernel lets go of it when the process ends: so
uploads of processes that still run are left alone, also while others start, and this can be done at any time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection

from cowherd.service.intake.resumable import RESUMABLE
from cowherd.service.intake.staging import STAGE, is_staged
from cowherd.service.intake.upload import IMPORT
from cowherd.service.records.blobs import read_blob
from cowherd.service.records.checks import stranded_images
from cowherd.service.records.database import Database
from cowherd.service.records.failures import queue_again
from cowherd.service.records.faults import ImageNotFound, StatusConflict
from cowherd.service.records.image import now
from cowherd.service.records.images import change_status
from cowherd.service.records.states import IMPORTING, SAVING, UPLOADING
from cowherd.service.records.uploads import UploadRecord, change_kind, end_upload, list_uploads, read_upload
from cowherd.storage.presence import is_there
from cowherd.stores.directory import DirectoryStore

REASON = "The service ended while the image was uploaded. Upload it again"
GONE = "What was staged of the image is not in its store any more. Stage it again, or upload it"
EXPIRED = "What was uploaded of the image waited too long for more, or for its import, and was deleted. Upload it again"


class Recovered(NamedTuple):
    """What was put right: the ids of images that are queued again, and the number of files that were deleted."""

    images: tuple[str, ...]
    files: int


def recover(database: Database, stores: Mapping[str, DirectoryStore]) -> Recovered:
    """Queues images whose upload nobody continues, or did not continue in time, and deletes files that no upload needs.

    Raises `HostFileError`, and what the records raise.
    """
    with database.read() as connection:
        found = list_uploads(connection)
    queued = [one.image_id for one in found if _end_if_dead(database, stores.get(one.store), one)]
    with database.read() as connection:
        stranded = stranded_images(connection)
    queued += [image_id for image_id, status in stranded if queue_stranded(database, image_id, status)]
    return Recovered(tuple(queued), sum(_discard_strays(database, store) for store in stores.values()))


def queue_stranded(database: Database, image_id: str, status: str) -> bool:
    """Queues an image that waits for bytes which nobody brings; returns False if it went on in between."""
    try:
        with database.write() as connection:
            queue_again(connection, image_id, {status}, REASON)
    except (ImageNotFound, StatusConflict):
        return False
    return True


def _end_if_dead(database: Database, store: DirectoryStore | None, upload: UploadRecord) -> bool:
    """Ends an upload whose process is gone; returns whether its image is queued again.

    One that waits to be continued is left as it is. In a store that is not configured any more (None) nothing can arrive.
    """
    waits, in_time = store is not None and _waits(store, upload), upload.expires_at > now()
    if not is_dead(store, upload):
        return False
    # Between the rename to a blob and the end of the transaction the file is held no more, but the blob is locked.
    with store.locked(upload.digest) if store and upload.digest else contextlib.nullcontext(), database.write() as connection:
        known = read_upload(connection, upload.id)
        if known is None or known.digest != upload.digest or _is_alive(store, upload):  # its end came in between
            return False
        if store and in_time and _puts_back(connection, store, known):
            return False
        end_upload(connection, upload.id)
        try:
            queue_again(connection, upload.image_id, {SAVING, UPLOADING, IMPORTING}, _reason(known, waits), size=None)
        except (ImageNotFound, StatusConflict):  # it is in no state of an upload any more
            return False
    return True


def _reason(upload: UploadRecord, waited: bool) -> str:
    """Returns why an upload has ended of which nobody brings more; `waited`: until now it could have gone on."""
    if waited:
        return EXPIRED
    return GONE if is_staged(upload) else REASON


def _puts_back(connection: Connection, store: DirectoryStore, upload: UploadRecord) -> bool:
    """Has an upload wait again whose bytes were all durable before the kill; returns whether it does.

    That is a resumable one whose file became a blob, or what was staged, and just being imported: its import goes on.
    """
    was_importing = upload.kind == IMPORT and is_staged(upload)
    if not (was_importing or upload.kind == RESUMABLE) or not _has_file(connection, store, upload):
        return False
    if was_importing:
        try:
            change_status(connection, upload.image_id, {IMPORTING}, UPLOADING)
        except (ImageNotFound, StatusConflict):
            return False
        change_kind(connection, upload.id, STAGE)
    return True


def _has_file(connection: Connection, store: DirectoryStore, upload: UploadRecord) -> bool:
    """Returns whether the file of an upload is there, also by taking back what became a blob that no record names.

    A file that took the place of a recorded blob, one that was damaged, stays that blob: its bytes must be sent again.
    """
    if upload.temporary is None or is_there(store.arriving(upload.temporary)):
        return upload.temporary is not None
    return (
        upload.digest is not None
        and read_blob(connection, upload.digest) is None
        and store.put_back(upload.digest, upload.temporary)
    )


def is_dead(store: DirectoryStore | None, upload: UploadRecord) -> bool:
    """Returns whether nobody brings more of an upload, and it does not wait either, or no more. Raises `HostFileError`."""
    waits = store is not None and _waits(store, upload)
    return not _is_alive(store, upload) and not (waits and upload.expires_at > now())


def strays(database: Database, store: DirectoryStore) -> list[str]:
    """Returns the names of the files that arrived for no upload, and that nobody holds. Raises `HostFileError`."""
    left = [one.name for one in store.incoming() if not store.is_held(one.name)]
    with database.read() as connection:
        known = {one.temporary for one in list_uploads(connection, store=store.name)}
    return [name for name in left if name not in known]


def _waits(store: DirectoryStore, upload: UploadRecord) -> bool:
    """Tells whether an upload waits to be continued. One whose file has become a blob, just before a kill, does not."""
    can_wait = upload.kind == RESUMABLE or (upload.kind == STAGE and is_staged(upload))
    return can_wait and upload.temporary is not None and is_there(store.arriving(upload.temporary))


def _is_alive(store: DirectoryStore | None, upload: UploadRecord) -> bool:
    return store is not None and upload.temporary is not None and store.is_held(upload.temporary)


def _discard_strays(database: Database, store: DirectoryStore) -> int:
    """Deletes the files that arrived for no upload, and returns how many there were."""
    found = strays(database, store)
    for name in found:
        store.discard(name)
    return len(found)
