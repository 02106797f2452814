"""`impact` with a look inside: finds the files and structures that the change of a base hits in each dependent."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cowherd import extents
from cowherd.errors import CowherdError
from cowherd.herd.impact.former_content import FormerContent
from cowherd.herd.impact.impact import Impact, impact_of
from cowherd.herd.impact.inside import Watch, look_inside
from cowherd.herd.impact.judging import judge_all
from cowherd.herd.impact.verdict import UNREADABLE, Hit, depth_of
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.records.digest import expand, to_blocks
from cowherd.herd.records.faults import DonorMissing
from cowherd.herd.seals.donors import BlockReader, locate
from cowherd.herd.seals.drift import drift_of
from cowherd.image.open import open_disk
from cowherd.live.holders import naming_holders
from cowherd.ops.exposure import exposed_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cowherd.extents import Ranges
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.records.digest import BlockDigests
    from cowherd.paths import PathName
    from cowherd.progress import Progress


def impact_on_files(
    base: PathName,
    *,
    against: PathName | None = None,
    donors: Sequence[PathName] = (),
    herd: Sequence[PathName] = (),
    progress: Progress | None = None,
    watch: Callable[[str, Path], Progress | None] | None = None,
) -> Impact:
    """Judges every dependent of `base` by its file systems: each hit of `impact` gets `inside`, and a verdict that follows from
    it.

    The old content comes from `donors`, from `against`, or from the donors that `repair` would use; without any, the parts that
    need it are listed as unknown. It calls `watch(what, overlay)` before each step; the result is a progress callback or None.
    It judges internal snapshots by their blocks, as `impact` does, without a look inside.
    Raises as `impact` does, and a named donor's own error if it can't be read.
    """
    lineage = survey_around(base, *donors, herd=herd)
    image = lineage.find(base)
    drift = drift_of(lineage, image, against, progress)
    overlays = lineage.dependents(image)
    hits = judge_all(lineage, overlays, image, drift.changed)
    named = [Path(donor) for donor in (*donors, *([against] if against is not None else []))]
    looked = look_into(lineage, image, drift.old, drift.changed, hits, named, watch)
    return impact_of(lineage, image, drift.changed, overlays, looked)


def look_into(
    lineage: Lineage,
    base: Image,
    old: BlockDigests,
    changed: Ranges,
    hits: Sequence[Hit],
    donors: Sequence[Path] = (),
    watch: Callable[[str, Path], Progress | None] | None = None,
) -> list[Hit]:
    """Returns the hits that `judge_all` found for all dependents of `base`, each with what is inside of its overlay.

    `old` are the digests of the content before, `changed` the bytes that differ from it.
    """
    if not any(len(hit.exposed) for hit in hits):
        return list(hits)
    with _old_blocks(lineage, base, old, hits, donors) as (reader, problem):
        return [
            _look_into(overlay, base, hit, changed, reader, problem, _watch_of(watch, overlay))
            for overlay, hit in zip(lineage.dependents(base), hits, strict=True)
        ]


@contextlib.contextmanager
def _old_blocks(
    lineage: Lineage, base: Image, old: BlockDigests, hits: Sequence[Hit], named: Sequence[Path]
) -> Iterator[tuple[BlockReader | None, str]]:
    """Yields a reader of the old content of all exposed bytes, or None and the reason why there is none."""
    needed = extents.normalised(np.concatenate([to_blocks(hit.exposed) for hit in hits]))
    try:
        located = locate(base, old, expand(needed), lineage, named)
    except DonorMissing as error:
        yield None, f"no copy of {error.missing_bytes} bytes of the old content was found"
        return
    with located.opened() as reader:
        yield reader, ""


def _watch_of(watch: Callable[[str, Path], Progress | None] | None, overlay: Image) -> Watch:
    return lambda what: watch(what, overlay.path) if watch else None


def _look_into(
    overlay: Image, base: Image, hit: Hit, changed: Ranges, reader: BlockReader | None, problem: str, watch: Watch
) -> Hit:
    if hit.problem or not len(hit.exposed):
        return hit
    try:
        with naming_holders(), open_disk(overlay.path, format=overlay.format) as disk:
            depth = depth_of(disk, base)
            exposed = exposed_bytes(disk, depth, changed)
            past = FormerContent(disk, exposed, reader) if reader else None
            inside = look_inside(disk, depth, exposed, past, problem, watch)
    except CowherdError as error:
        return dataclasses.replace(hit, verdict=UNREADABLE, problem=str(error))
    return dataclasses.replace(hit, verdict=inside.verdict, inside=inside)
