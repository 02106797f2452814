"""What tests of the catalog compare, and count."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from unittest import mock

from cowherd.herd.lineage import reading
from cowherd.herd.lineage.book.query import places_under
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.scan import Image, scan

TICK_NS = 30_000_000
"""Longer than the clock tick by which any file system here stamps times."""


def settle() -> None:
    """Waits until what was changed so far can't change again without another time."""
    time.sleep(2 * TICK_NS / 1e9)


@contextlib.contextmanager
def without_catalog() -> Iterator[None]:
    with mock.patch.dict(os.environ, COWHERD_CATALOG="off"):
        yield


@contextlib.contextmanager
def counted_reads() -> Iterator[list[str]]:
    """The names of files that scans open meanwhile."""
    names: list[str] = []

    def counting(read):
        return lambda path: (names.append(os.path.basename(path)), read(path))[1]

    with (
        mock.patch.object(reading, "read_image", counting(reading.read_image)),
        mock.patch.object(reading, "read_seal", counting(reading.read_seal)),
    ):
        yield names


def facts(*directories) -> dict[str, object]:
    """Everything that a scan says of a herd, but for space that the host may yet allocate."""
    found = scan(places_under(directories))
    lineage = Lineage(found)
    images = sorted(lineage.images.values())
    return {
        "images": [image._replace(disk_size=0) for image in images],
        "links": [lineage.links(image) for image in images],
        "seals": [(lineage.seal(image), _record(lineage, image)) for image in images],
        "live seals": [image.seal for image in images],
        "unreadable": sorted(found.unreadable),
        "orphans": sorted(found.orphans),
        "journals": sorted(found.journals),
    }


def _record(lineage: Lineage, image: Image) -> object:
    try:
        return lineage.record_of(image)
    except Exception as error:  # noqa: BLE001 - what it says is compared
        return str(error)
