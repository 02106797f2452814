"""Records in a seal the identities of the image's file and of its chain, which quick checks compare."""

from __future__ import annotations

import os

from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.records.faults import ContentChanging
from cowherd.herd.records.ownership import believed
from cowherd.herd.records.sealrecord import ChainFile, SealRecord
from cowherd.herd.records.sealwriting import write_seal
from cowherd.herd.seals.quick_check import record_of
from cowherd.storage.identity import FileIdentity, make_lasting, note_reading
from cowherd.storage.ticks import wait_for_tick

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.records.digest import BlockDigests


def record_files(lineage: Lineage, image: Image, record: SealRecord, digests: BlockDigests) -> None:
    """Writes a seal, whose content is still right, with the identities that the files of `image` and its chain have now."""
    if image.seal:
        record = believed(record, os.stat(image.path), image.seal)
    write_seal(image.expected_seal, with_files(record, lineage, image), digests)


def with_files(record: SealRecord, lineage: Lineage, image: Image, before: FileIdentity | None = None) -> SealRecord:
    """Returns a record with the identities that the files of `image` and its chain have now.

    It flushes the files, so that a power cut does not turn their times back, and waits for the clock to tick if it can, so that
    every later change shows in the times. Raises `ContentChanging` if somebody wrote to the file after its identity was `before`.
    """
    make_lasting(image.path)
    now, certain = wait_for_tick(image.path)
    if before and (now.inode, now.size, now.mtime_ns) != (before.inode, before.size, before.mtime_ns):
        raise ContentChanging(image.path)
    below = [_chain_file(file) for file in lineage.chain(image)[1:]]
    return record._replace(
        identity=now,
        atime_ns=note_reading(image.path),
        chain=tuple(file for file, _ in below),
        certain=certain and all(sure for _, sure in below),
    )


def _chain_file(file: Image) -> tuple[ChainFile, bool]:
    record = record_of(file)
    make_lasting(file.path)
    identity, certain = wait_for_tick(file.path)
    content = record.content_digest if record else None
    return ChainFile(os.fspath(file.path), identity, content, note_reading(file.path)), certain
