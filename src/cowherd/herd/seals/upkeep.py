"""Keeping seals valid while cowherd itself changes files in ways that keep their guest content."""

from __future__ import annotations

import contextlib
import os

from cowherd.errors import CowherdError
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.survey import survey_again
from cowherd.herd.records.faults import DriftFound
from cowherd.herd.records.ownership import believed
from cowherd.herd.records.sealfile import read_digests
from cowherd.herd.records.sealrecord import SealRecord
from cowherd.herd.seals.quick_check import condition
from cowherd.herd.seals.recorded_files import record_files
from cowherd.herd.seals.unseal import unprotected
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.records.digest import BlockDigests


class Kept(NamedTuple):
    """A seal that held: its image, and what it says."""

    image: Image
    record: SealRecord
    digests: BlockDigests


def holding_seals(lineage: Lineage, *images: Image) -> list[Kept]:
    """Returns the seals that hold now, of `images` and of all that stands on them, the nearest to the root first."""
    concerned = {image.key: image for top in images for image in (top, *lineage.dependents(top))}
    kept = []
    for image in sorted(concerned.values(), key=lambda image: len(lineage.chain(image))):
        if image.seal and condition(lineage, image).status.holds:
            with contextlib.suppress(CowherdError):  # its blocks are damaged, which verify --full reports
                record, digests = read_digests(image.expected_seal)
                kept.append(Kept(image, believed(record, os.stat(image.path), image.expected_seal), digests))
    return kept


@contextlib.contextmanager
def keeping_seals(lineage: Lineage, *written: Image) -> Iterator[None]:
    """Lets the block write to the files of `written`, sealed or not, in ways that keep their guest content.

    Their protection is lifted meanwhile. Seals that held before, of these images and of what stands on them, then record the
    files as they have become. Raises `DriftFound` if one of `written` had changed already since it was sealed.
    """
    kept = holding_seals(lineage, *written)
    holding = {seal.image.key for seal in kept}
    with contextlib.ExitStack() as stack:
        for image in written:
            if image.seal and image.key not in holding:
                raise DriftFound(image.path, condition(lineage, image).status, "write to it")
            stack.enter_context(unprotected(image))
        try:
            yield
        finally:
            stack.close()
            if kept:
                record_kept(survey_again(lineage), kept)  # the block may have put an image on another chain


def record_kept(lineage: Lineage, kept: list[Kept]) -> None:
    """Updates seals that held to their images' files as they are now; each file is found again by its device and inode."""
    for seal in kept:
        image = lineage.images.get(seal.image.key)
        if image:
            record_files(lineage, image, seal.record, seal.digests)
