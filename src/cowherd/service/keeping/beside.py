"""Verifies what lies beside blobs, and makes it anew from the blob and the records: sums, seals, and notes to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.errors import HostFileError, ImageFormatError
from cowherd.formats import registry
from cowherd.herd.records.digest_rows import Content
from cowherd.herd.records.sealfile import check_seal
from cowherd.service.intake.about import about_of, read_about, tells_of
from cowherd.service.intake.content import FlatContent
from cowherd.service.intake.hashing import BLOCK_BYTES
from cowherd.service.intake.inspection import MOST_VIRTUAL_BYTES
from cowherd.service.intake.lineage import Below, chain_of
from cowherd.service.intake.sealing import seal_blob
from cowherd.service.intake.stored import inspect_stored
from cowherd.service.records.blobs import Blob, images_with_blob, read_blob
from cowherd.service.records.database import Database
from cowherd.service.records.images import read_image
from cowherd.service.records.lineage import base_of
from cowherd.service.records.members import list_members
from cowherd.storage.hostfile import HostFile
from cowherd.storage.presence import GONE
from cowherd.stores.directory import DirectoryStore, Kind
from cowherd.stores.faults import SumsDamaged
from cowherd.stores.pieces import made_sums

if TYPE_CHECKING:
    from sqlalchemy import Connection


def damaged_beside(store: DirectoryStore, blob: Blob) -> list[Kind]:
    """Returns the kinds of files beside a blob that are missing, damaged or another blob's. Raises `HostFileError`."""
    checks: tuple[tuple[Kind, bool], ...] = (
        ("sums", _sums_are_sound(store, blob)),
        ("seal", blob.content_digest is None or _seal_is_sound(store, blob)),
        ("about", tells_of(read_about(store.read_beside(blob.digest, "about")), blob)),
    )
    return [kind for kind, sound in checks if not sound]


def restore_beside(database: Database, store: DirectoryStore, digest: str) -> list[Kind]:
    """Makes anew what is damaged beside a blob that is whole, and brings the note to people up to date.

    Returns the kinds that were damaged and are sound now. Raises `HostFileError`, `Refused` if the blob can't be read for its
    seal, and what the records raise.
    """
    with database.read() as connection:
        blob = read_blob(connection, digest)
    if blob is None:
        return []
    damaged = damaged_beside(store, blob)
    if "sums" in damaged and (sums := made_sums(store, digest)):
        store.write_beside(digest, "sums", sums.encode(digest))
    if "seal" in damaged:
        _make_seal(store, blob, _below(database, store, digest))
    write_about(database, store, digest)
    left = damaged_beside(store, blob)
    return [kind for kind in damaged if kind not in left]


def write_about(database: Database, store: DirectoryStore, digest: str) -> bool:
    """Has the note beside a blob say what the records do; returns whether it said something else before."""
    with store.locked(digest):  # who adopts the blob for another image writes it too
        with database.read() as connection:
            text = _about(connection, digest)
        before, after = read_about(store.read_beside(digest, "about")), read_about(text)
        if text is None or before == after:
            return False
        store.write_beside(digest, "about", text)
    return True


def _about(connection: Connection, digest: str) -> bytes | None:
    blob = read_blob(connection, digest)
    if blob is None:
        return None
    found = images_with_blob(connection, digest)
    return about_of(blob, [(read_image(connection, one), list_members(connection, one)) for one in found])


def _sums_are_sound(store: DirectoryStore, blob: Blob) -> bool:
    try:
        sums = store.sums(blob.digest)
    except SumsDamaged:
        return False
    return sums is not None and sums.size == blob.size


def _seal_is_sound(store: DirectoryStore, blob: Blob) -> bool:
    try:
        record = check_seal(store.beside(blob.digest, "seal"))
    except ImageFormatError:
        return False
    except HostFileError as error:
        if error.errno not in GONE:
            raise
        return False
    return record.content_digest.hex() == blob.content_digest


def _below(database: Database, store: DirectoryStore, digest: str) -> tuple[Below, ...]:
    """Returns what an overlay stands on, in the same store. Raises `Refused` if that is not there whole."""
    with database.read() as connection:
        overlays = [one for one in images_with_blob(connection, digest) if base_of(connection, one)]
        return chain_of(connection, {store.name: store}, read_image(connection, overlays[0]))[1:] if overlays else ()


def _make_seal(store: DirectoryStore, blob: Blob, below: tuple[Below, ...]) -> None:
    """Writes the seal of a blob anew if what a guest sees in it is what the records say."""
    content = _content_of(store, blob, below)
    if content is not None and content.content_digest.hex() == blob.content_digest:
        store.delete_beside(blob.digest, "seal")  # nobody writes a seal over what is none, as a damaged one may be
        seal_blob(store, blob.digest, blob.format or "", content)


def _content_of(store: DirectoryStore, blob: Blob, below: tuple[Below, ...]) -> Content | None:
    path, format = store.path(blob.digest), blob.format or ""
    if format == registry.QCOW2.name:
        return inspect_stored(path, format, MOST_VIRTUAL_BYTES, below=below).content
    flat = FlatContent()
    with HostFile.open(path, lock=None, follow=False) as file:
        for begin in range(0, blob.size, BLOCK_BYTES):
            flat.take(file.pread(begin, min(BLOCK_BYTES, blob.size - begin)))
    return flat.finish()
