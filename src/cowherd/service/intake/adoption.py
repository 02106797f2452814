"""Makes a file that has arrived a blob, and an image active that has it: on disk first, and then in one transaction.

Killed in between, the store has a blob that no record names: it is adopted when the same bytes come again, or removed later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from cowherd.herd.records.digest_rows import Content
from cowherd.service.intake.about import with_image
from cowherd.service.intake.arriving import Intake
from cowherd.service.intake.hashing import Digests
from cowherd.service.intake.sealing import seal_blob
from cowherd.service.records.blobs import WHOLE, Blob, read_blob, record_blob, record_place
from cowherd.service.records.database import Database
from cowherd.service.records.image import Image
from cowherd.service.records.images import change_status, note_reason, read_image
from cowherd.service.records.lineage import record_base
from cowherd.service.records.members import Member, list_members
from cowherd.service.records.places import Place, place_of
from cowherd.service.records.states import ACTIVE
from cowherd.service.records.uploads import UploadRecord, end_upload, note_digest
from cowherd.storage.identity import FileIdentity
from cowherd.storage.presence import GONE, look_up
from cowherd.storage.ticks import wait_for_tick
from cowherd.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


BECAME_ACTIVE = "image.active"
"""The action of the event that an image got its content."""


@dataclass(frozen=True)
class Arrived:
    """What arrived: its digests, the format that its bytes have, the bytes of the disk in it and its content, if known."""

    digests: Digests
    format: str
    virtual_size: int | None
    content: Content | None
    bound_to: str | None = None
    """The content digest of what an overlay stands on, in hexadecimal digits."""

    @property
    def blob(self) -> Blob:
        """What the records hold of the bytes."""
        named = self.digests.named
        return Blob(
            digest=self.digests.blake3,
            size=self.digests.size,
            md5=named.get("md5"),
            sha256=named.get("sha256"),
            sha512=named.get("sha512"),
            format=self.format,
            virtual_size=self.virtual_size,
            content_digest=self.content.content_digest.hex() if self.content else None,
        )


def adopt(intake: Intake, upload: UploadRecord, status: str, arrived: Arrived) -> Image:
    """Makes what arrived as `upload` a blob of the store, and its image active, which is `status`; returns it as it is then.

    Raises `HostFileError`, for an overlay `Refused` and `MoreVisible`, and what the
    records raise: `ImageNotFound`, or `StatusConflict` if the image is not `status` any more.
    After an error the store has a blob more only if a record names it, or the records can't be asked.
    """
    database, store, digest = intake.database, intake.store, arrived.digests.blake3
    with database.write() as connection:
        note_digest(connection, upload.id, digest)
    with store.locked(digest), tidying(database, store, digest):
        with database.read() as connection:
            image, members = read_image(connection, upload.image_id), list_members(connection, upload.image_id)
        image = with_bytes(image, arrived)
        identity = make_blob(database, store, upload.temporary or "", image, members, arrived)
        image = _record(intake, upload, status, image, arrived, identity)
        if identity is None:  # only now: whoever is killed before goes on with it
            store.discard(upload.temporary or "")
        return image


def make_blob(
    database: Database, store: DirectoryStore, temporary: str, image: Image, members: Sequence[Member], arrived: Arrived
) -> FileIdentity | None:
    """Makes the file `temporary` the blob of `image`, with what lies beside it; returns its identity.

    None: the blob was there already, and the file is still to be discarded, once the image is recorded.
    The caller holds `locked` and `tidying`, and records it before they end. Raises `HostFileError`, and what the records raise.
    """
    digest = arrived.digests.blake3
    with database.read() as connection:
        place = place_of(connection, digest, store.name)
    # What arrived is proved: it takes the place of a file of which that can't be said.
    new = store.adopt(temporary, digest, replaces=not _is_proved(store, digest, place))
    _write_beside(store, image, members, arrived, new=new)
    return wait_for_tick(store.path(digest))[0] if new else None  # so that every later change shows in it


def _is_proved(store: DirectoryStore, digest: str, place: Place | None) -> bool:
    """Returns whether a store has a blob as it was when it was last verified."""
    if place is None or place.state != WHOLE or place.identity is None:
        return False
    info = look_up(store.path(digest), follow=False, absent=GONE)
    return info is not None and tuple(FileIdentity.from_stat(info)) == place.identity


@contextlib.contextmanager
def tidying(database: Database, store: DirectoryStore, digest: str) -> Iterator[None]:
    """Removes a blob if the block raises, unless a record names it: of a commit that failed one can't tell."""
    try:
        yield
    except BaseException:
        with database.read() as connection:
            known = read_blob(connection, digest)
        if known is None:
            store.remove(digest)
        raise


def with_bytes(image: Image, arrived: Arrived) -> Image:
    """Returns the record of an image as it is once it has the bytes that arrived."""
    named = arrived.digests.named
    algorithm = next((name for name in named if name != "md5"), None)
    return msgspec.structs.replace(
        image,
        blob=arrived.digests.blake3,
        checksum=named.get("md5"),
        os_hash_algo=algorithm,
        os_hash_value=named[algorithm] if algorithm else None,
        size=arrived.digests.size,
        virtual_size=arrived.virtual_size,
        disk_format=arrived.format or image.disk_format,
        reason=None,
    )


_BYTES = ("blob", "checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size", "disk_format", "reason")


def _write_beside(store: DirectoryStore, image: Image, members: Sequence[Member], arrived: Arrived, *, new: bool) -> None:
    digest = arrived.digests.blake3
    if new or store.read_beside(digest, "sums") is None:
        store.write_beside(digest, "sums", arrived.digests.sums.encode(digest))
    if arrived.content and (new or store.read_beside(digest, "seal") is None):
        seal_blob(store, digest, arrived.format, arrived.content)
    store.write_beside(digest, "about", with_image(store.read_beside(digest, "about"), arrived.blob, image, members))


def _record(
    intake: Intake, upload: UploadRecord, status: str, image: Image, arrived: Arrived, identity: FileIdentity | None
) -> Image:
    """Records it. `identity` is that of the blob's file if it is new."""
    with intake.database.write() as connection:
        record_arrived(connection, arrived, upload.store, "upload", identity)
        # An address on the web from an import that failed is not that of these bytes.
        facts = {name: getattr(image, name) for name in _BYTES}
        change_status(connection, image.id, {status}, ACTIVE, locations=[], **facts)
        end_upload(connection, upload.id)
        intake.note(connection, BECAME_ACTIVE, upload, size=image.size, blob=image.blob, store=upload.store)
        if arrived.bound_to is not None and intake.bases is not None:
            record_base(connection, intake.bases.claim(connection, image, arrived.bound_to))
        return read_image(connection, image.id)


def record_arrived(connection: Connection, arrived: Arrived, store: str, how: str, identity: FileIdentity | None) -> None:
    """Records a blob that a store has; `identity` is that of its file if it is new, `how` the way in which it came."""
    record_blob(connection, arrived.blob)
    if identity is not None:
        record_place(connection, arrived.digests.blake3, store, how, identity)
        note_reason(connection, arrived.digests.blake3, None)  # what was damaged, for others, is whole again
