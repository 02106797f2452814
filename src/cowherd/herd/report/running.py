"""What the herd knows of the images that running processes have open: their seals, their status, and merges at work on them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cowherd.errors import HostFileError
from cowherd.herd.lineage.links import probed_format
from cowherd.herd.lineage.pending import Pending
from cowherd.herd.lineage.survey import survey_chains
from cowherd.herd.report.tree import Node, tree_of
from cowherd.live.kernel_holders import FILE, Key, key_of
from cowherd.live.running import Running


@dataclass(frozen=True)
class Known:
    """The images and their chains as `tree` shows them, and those that a merge concerns which is not at its end; all by key."""

    nodes: dict[Key, Node]
    merging: frozenset[Key]


def known_of(processes: Iterable[Running]) -> Known:
    """Returns what the herd knows of the files that processes have open. Reads headers and the records of seals, and no data.

    Leaves out files that have another name here, or none any more, and those that this user may not read.
    """
    images = {image.path: image.key for one in processes for image in one.images if image.key[0] == FILE}
    formats = {name: image_format for name, key in images.items() if _leads(name, key) and (image_format := _format_of(name))}
    lineage = survey_chains([(Path(name), image_format) for name, image_format in formats.items()], {})
    pending = Pending(lineage)
    nodes = {(FILE, *node.image.key): node for node in tree_of(lineage).nodes}
    return Known(nodes, frozenset((FILE, *image.key) for image in lineage.images.values() if pending.concerning(image)))


def _leads(name: str, key: Key) -> bool:
    try:
        return key_of(os.stat(name)) == key
    except (OSError, ValueError):
        return False


def _format_of(name: str) -> str | None:
    """Returns the format that an image's own header shows, None if this user may not read it."""
    try:
        return probed_format(name)
    except HostFileError:
        return None
