"""Writes the seal of a blob: the record of what a guest sees in it, in the format of every other seal."""

from __future__ import annotations

import time
import uuid

from cowherd.distribution import made_by
from cowherd.herd.records.digest_rows import Content
from cowherd.herd.records.sealrecord import SealRecord
from cowherd.herd.records.sealwriting import write_seal_of
from cowherd.storage.attributes import Attributes
from cowherd.storage.identity import make_lasting, note_reading
from cowherd.storage.protection import Protection
from cowherd.storage.ticks import wait_for_tick
from cowherd.stores.directory import DirectoryStore


def seal_blob(store: DirectoryStore, digest: str, format: str, content: Content) -> None:
    """Writes the seal of a blob that the store has, an image in a `format` that cowherd reads, beside it.

    The record is that of a file which is protected by its mode. Raises `HostFileError`.
    """
    path = store.path(digest)
    make_lasting(path)
    identity, certain = wait_for_tick(path)
    record = SealRecord(
        seal_id=uuid.uuid4().bytes,
        generation=1,
        content_digest=content.content_digest,
        size=content.size,
        format=format,
        identity=identity,
        chain=(),
        level=Protection.READONLY,
        mode_before=0o640,
        shadow=None,
        created=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        made_by=made_by(),
        attributes=Attributes.of(path).recorded,
        atime_ns=note_reading(path),
        certain=certain,
    )
    write_seal_of(store.beside(digest, "seal"), record, content)
