"""Copies a blob from a store to another one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blake3 import blake3

from cowherd.errors import CowherdError
from cowherd.service.records.blobs import record_place
from cowherd.stores.directory import KINDS

if TYPE_CHECKING:
    from cowherd.service.records.database import Database
    from cowherd.stores.directory import DirectoryStore

_PIECE = 1 << 20


class SourceDamaged(CowherdError):
    """A blob that was to be copied is not what its name says. Attributes: `store`, `digest`."""

    def __init__(self, store: str, digest: str):
        self.store, self.digest = store, digest

    def __str__(self) -> str:
        return f"the blob {self.digest} is damaged in the store {self.store}, so that it was not copied; have it repaired first"


def copy_blob(database: Database, source: DirectoryStore, target: DirectoryStore, digest: str) -> None:
    """Copies a blob, with what lies beside it, and records that the target has it. What arrives is held against its name.

    Raises `SourceDamaged`, `BlobMissing`, `HostFileError`, and what the records raise; the target is as before then.
    """
    temporary = _copy(source, target, digest)
    try:
        with target.locked(digest):
            target.adopt(temporary, digest, replaces=True)
            for kind in KINDS:
                beside = source.read_beside(digest, kind)
                if beside is not None:
                    target.write_beside(digest, kind, beside)
            with database.write() as connection:
                record_place(connection, digest, target.name, "copy")
    except BaseException:
        target.discard(temporary)
        raise


def _copy(source: DirectoryStore, target: DirectoryStore, digest: str) -> str:
    """Returns the name of the copy, which is durable, in the target."""
    whole = blake3()
    with os.fdopen(source.open(digest), "rb", buffering=0) as file, target.begin() as incoming:
        try:
            while piece := file.read(_PIECE):
                whole.update(piece)
                incoming.append(piece)
            if whole.hexdigest() != digest:
                raise SourceDamaged(source.name, digest)
            incoming.sync()
        except BaseException:
            target.discard(incoming.name)
            raise
        return incoming.name
