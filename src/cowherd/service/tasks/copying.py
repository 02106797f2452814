"""Copies a blob from a store to another one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blake3 import blake3

from cowherd.errors import CowherdError
from cowherd.service.records.blobs import record_place
from cowherd.storage.identity import FileIdentity
from cowherd.stores.directory import KINDS

if TYPE_CHECKING:
    from cowherd.service.records.database import Database
    from cowherd.stores.directory import DirectoryStore
    from cowherd.stores.incoming import Incoming

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
    with target.begin() as incoming:  # open until it is a blob, so that nobody takes it for one that was left behind
        try:
            _copy(source, digest, incoming)
            with target.locked(digest):
                target.adopt(incoming.name, digest, replaces=True)
                for kind in KINDS:
                    beside = source.read_beside(digest, kind)
                    if beside is not None:
                        target.write_beside(digest, kind, beside)
                with database.write() as connection:
                    record_place(connection, digest, target.name, "copy", FileIdentity.of(target.path(digest)))
        except BaseException:
            target.discard(incoming.name)
            raise


def _copy(source: DirectoryStore, digest: str, incoming: Incoming) -> None:
    """Writes the blob, durably, into the file."""
    whole = blake3()
    with os.fdopen(source.open(digest), "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            whole.update(piece)
            incoming.append(piece)
    if whole.hexdigest() != digest:
        raise SourceDamaged(source.name, digest)
    incoming.sync()
