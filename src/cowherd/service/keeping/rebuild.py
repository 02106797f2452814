"""Makes the records again from what the stores have, when they are lost: blobs, and the notes and seals beside them.

Images get back their ids, names, owners, properties, tags and members, as they were when the notes were written last. What is no
part of an image with content is lost: tasks, events, uploads, images without content. The metadata definitions come from their
copy. Content is verified before it is given out.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from cowherd.errors import ImageFormatError, InvalidRequest
from cowherd.formats import registry
from cowherd.formats.qcow2.header import read_header
from cowherd.herd.records.binding import binding_in
from cowherd.herd.records.sealfile import read_record_or_none
from cowherd.ops.inspect.signatures import SIGNATURE_BYTES
from cowherd.service.intake.about import MEMBERS, About, read_about
from cowherd.service.intake.hashing import BLOCK_BYTES, Digests, Hasher
from cowherd.service.intake.inspection import recognise
from cowherd.service.intake.lineage import having
from cowherd.service.keeping.definitions import record_definitions
from cowherd.service.records.blobs import Blob, images_with_blob, read_blob, record_blob, record_place
from cowherd.service.records.checks import is_empty
from cowherd.service.records.database import Database
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image, is_known, note_unused
from cowherd.service.records.lineage import Claim, record_base, set_base
from cowherd.service.records.members import Status, add_member, change_member
from cowherd.service.records.places import places_of
from cowherd.service.records.states import ACTIVE, DEACTIVATED
from cowherd.storage.hostfile import HostFile
from cowherd.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

HOW = "rebuild"


class Rebuilt(NamedTuple):
    """How many images and blobs are recorded now, and for each blob that is not, or whose note is lost, a sentence."""

    images: int
    blobs: int
    problems: tuple[str, ...]


def rebuild(database: Database, stores: Mapping[str, DirectoryStore]) -> Rebuilt:
    """Records all that the stores have, in a database with the tables and nothing in them; all in one transaction.

    Raises `InvalidRequest` if something is recorded already, `HostFileError`, and what the records raise.
    """
    with database.write() as connection:
        if not is_empty(connection):
            raise InvalidRequest("the database has records of images already; --rebuild is for one that was lost")
        work = _Rebuilding(connection)
        for store in stores.values():
            for digest in store.digests():
                work.take(store, digest)
        work.record_lineage(stores)
        work.problems += record_definitions(connection, stores.values())
        return Rebuilt(len(work.images), len(work.blobs), tuple(work.problems))


class _Noted(NamedTuple):
    """An image as a note tells of it, and the projects that it is lent to, with what they answered."""

    image: Image
    members: Mapping[str, Status]


class _Rebuilding:
    def __init__(self, connection: Connection):
        self._connection = connection
        self.images: dict[str, str] = {}
        self.blobs: set[str] = set()
        self.problems: list[str] = []

    def take(self, store: DirectoryStore, digest: str) -> None:
        """Records a blob that a store has, and its images."""
        about = read_about(store.read_beside(digest, "about"))
        known = None if about is None else _records_in(about, digest)
        if known is None and digest not in self.blobs:
            known = self._found_out(store, digest)
        if known is None and digest not in self.blobs:
            self.problems.append(f"the blob {digest} in the store {store.name} is damaged, and nothing tells what it is")
            return
        if known is not None:
            self._record(*known)
        record_place(self._connection, digest, store.name, HOW, verified=False)

    def _record(self, blob: Blob, images: list[_Noted]) -> None:
        record_blob(self._connection, blob)
        self.blobs.add(blob.digest)
        for noted in images:
            had = self.images.setdefault(noted.image.id, blob.digest)
            if had != blob.digest:  # an upload that was killed at its end, and came again with other bytes
                self.problems.append(
                    f"the image {noted.image.id} stands in the notes of two blobs: it has {had} now, and not {blob.digest}"
                )
            elif not is_known(self._connection, noted.image.id):  # by the note in another store
                self._record_image(noted)
        note_unused(self._connection, blob.digest)

    def _record_image(self, noted: _Noted) -> None:
        create_image(self._connection, noted.image)
        for member, status in noted.members.items():
            add_member(self._connection, noted.image.id, member)
            change_member(self._connection, noted.image.id, member, status)

    def record_lineage(self, stores: Mapping[str, DirectoryStore]) -> None:
        """Records of what overlays stand on, as the bindings in them say."""
        bound = {digest: content for digest in self.blobs if (content := self._bound_to(stores, digest))}
        claims = [
            Claim(image_id, content, None, "binding")
            for digest, content in sorted(bound.items())
            for image_id in images_with_blob(self._connection, digest)
        ]
        for claim in claims:
            record_base(self._connection, claim)
        for claim in claims:  # an overlay may show what its base shows: only now it is known which ones are overlays
            base = next((one.id for one in having(self._connection, claim.base_content)), None)
            set_base(self._connection, claim.child, base)

    def _bound_to(self, stores: Mapping[str, DirectoryStore], digest: str) -> str | None:
        blob = read_blob(self._connection, digest)
        if blob is None or blob.format != registry.QCOW2.name:
            return None
        held = [stores[one.store] for one in places_of(self._connection, digest)]
        return next((content for store in held if (content := _binding_of(store, digest))), None)

    def _found_out(self, store: DirectoryStore, digest: str) -> tuple[Blob, list[_Noted]] | None:
        """Returns the records of a blob whose note is lost, by its bytes and its seal: of an image that only admins see."""
        with HostFile.open(store.path(digest), lock=None, follow=False) as file:
            head, digests = file.pread(0, min(SIGNATURE_BYTES, file.size())), _hashed(file)
        if digests.blake3 != digest:
            return None
        self.problems.append(f"the blob {digest} in the store {store.name} has no note: its image has a new id, and no owner")
        seal = read_record_or_none(store.beside(digest, "seal"))
        format = seal.format if seal else recognise(head)
        blob = Blob(
            digest=digest,
            size=digests.size,
            md5=digests.named["md5"],
            sha512=digests.named["sha512"],
            format=format,
            virtual_size=seal.size if seal else None,
            content_digest=seal.content_digest.hex() if seal else None,
        )
        return blob, [_Noted(_image_of(blob), {})]


def _binding_of(store: DirectoryStore, digest: str) -> str | None:
    """Returns the content digest that a blob is bound to, None if it is no overlay or its header can't be read."""
    try:
        with HostFile.open(store.path(digest), lock=None, follow=False) as file:
            header = read_header(file)
            binding = binding_in(header, store.path(digest)) if header.backing_name is not None else None
    except ImageFormatError:
        return None
    return binding.content_digest.hex() if binding else None


def _hashed(file: HostFile) -> Digests:
    hasher = Hasher(("md5", "sha512"))
    try:
        for begin in range(0, file.size(), BLOCK_BYTES):
            hasher.feed(file.pread(begin, min(BLOCK_BYTES, file.size() - begin)))
    except BaseException:
        hasher.abandon()
        raise
    return hasher.finish()


def _image_of(blob: Blob) -> Image:
    return Image(
        id=str(uuid.uuid4()),
        name=f"found-{blob.digest[:12]}",
        status=ACTIVE,
        visibility="private",
        checksum=blob.md5,
        os_hash_algo="sha512",
        os_hash_value=blob.sha512,
        size=blob.size,
        virtual_size=blob.virtual_size,
        container_format="bare",
        disk_format=blob.format,
        blob=blob.digest,
    )


def _records_in(about: About, digest: str) -> tuple[Blob, list[_Noted]] | None:
    """Returns the records that a note holds, None if it is another blob's, or makes no sense."""
    try:
        blob = msgspec.convert(about.blob, Blob)
        images = [_noted(image_id, facts, digest) for image_id, facts in about.images.items()]
    except msgspec.ValidationError:
        return None
    sensible = blob.digest == digest and all(one.image.status in (ACTIVE, DEACTIVATED) for one in images)
    return (blob, images) if sensible else None


def _noted(image_id: str, facts: dict[str, Any], digest: str) -> _Noted:
    """Reads what a note says of an image. Raises `ValidationError`. Notes of older versions tell of no members."""
    image = msgspec.convert({**facts, "id": image_id, "blob": digest}, Image)
    return _Noted(image, msgspec.convert(facts.get(MEMBERS, {}), dict[str, Status]))
