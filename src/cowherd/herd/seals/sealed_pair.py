"""Tells from seals in which bytes two images differ, so that their content need not be read.

A seal is valid for a file only while the file, and each below it, is as the seal left it (see `condition`), and only for the
format that was sealed.
"""

from __future__ import annotations

import os
from functools import cached_property

from cowherd.errors import CowherdError
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.records.header import Head, read_image
from cowherd.herd.records.sealfile import read_digests
from cowherd.herd.records.sealrecord import SealRecord
from cowherd.herd.seals.quick_check import condition, record_of
from cowherd.image.backing import resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.extents import Ranges
    from cowherd.formats.reference import BackingReference
    from cowherd.herd.lineage.scan import Image
    from cowherd.paths import PathName
    from cowherd.storage.holding import Holding


class SealedPair:
    """Two images with their seals' records; both seals hold."""

    def __init__(self, old: Image, new: Image, records: tuple[SealRecord, SealRecord]):
        self.old, self.new, self.records = old, new, records

    @cached_property
    def is_equal(self) -> bool:
        """Whether both hold the same bytes and have the same size."""
        return self.records[0].content_digest == self.records[1].content_digest

    @cached_property
    def differs(self) -> Ranges:
        """The guest bytes in which they differ, in whole blocks. Raises `ImageFormatError` for a damaged seal."""
        from cowherd.herd.records.digest import differing, to_bytes

        old, new = read_digests(self.old.expected_seal)[1], read_digests(self.new.expected_seal)[1]
        return to_bytes(differing(old, new), max(old.size, new.size))


def sealed_pair(lineage: Lineage, old: Image | None, new: Image) -> SealedPair | None:
    """Returns both images with their records; None if the seal of one is missing or does not hold.

    Raises `ImageFormatError` for a damaged seal.
    """
    if old is None:
        return None
    records = _record_that_holds(lineage, old), _record_that_holds(lineage, new)
    return SealedPair(old, new, (records[0], records[1])) if records[0] and records[1] else None


def bases_of_rebase(
    overlay: PathName,
    backing: BackingReference,
    seen: Lineage | None = None,
    *,
    herd: Sequence[PathName] = (),
    held: Holding | None = None,
) -> SealedPair | None:
    """Returns the present base of `overlay` and its new one, `backing`, if both have seals that hold.

    `seen`: the herd around the overlay as it was a moment ago, which is enough where it shows the new base too. `held`: the
    files that the caller holds.
    Returns None if anything is in doubt: a format other than the sealed one, a base that can't be found, a damaged seal.
    """
    try:
        path = resolve(overlay, backing).name
        lineage = seen if seen and seen.known(path) else survey_around(overlay, path, herd=herd, held=held)
        image, new = lineage.known(overlay), lineage.known(path)
        if image is None or new is None or image.backing is None or lineage.broken(image):
            return None
        head = read_image(os.fspath(overlay)).content  # another rebase may have ended since the herd was looked at
        if not isinstance(head, Head) or head.backing != image.backing:
            return None
        pair = sealed_pair(lineage, lineage.parent(image), new)
        if pair is None or (image.backing.format, backing.format) != (pair.records[0].format, pair.records[1].format):
            return None
        if not pair.is_equal:
            _ = pair.differs  # read the digests now: here a damaged seal only means None, later it would be an error
        return pair
    except (CowherdError, OSError):
        return None  # the caller opens the files then, and reports what is wrong with them


def _record_that_holds(lineage: Lineage, image: Image) -> SealRecord | None:
    record = record_of(image)
    return record if record and condition(lineage, image).status.holds else None
