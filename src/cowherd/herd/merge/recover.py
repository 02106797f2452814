"""Ending merges that were interrupted: a merge that has changed nothing yet is taken back, any other is finished.

To finish a merge is to do it again. The overlay reads as it did until it is given up, so the same plan is made anew from what is
there now: blocks that were merged already are equal and drop out; what a machine has written to the overlay since counts as its
own.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd import extents
from cowherd.errors import CowherdError, HostFileError, preview
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import journals_in
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.merge.concerned import require_concerned
from cowherd.herd.merge.faults import MergeFailed
from cowherd.herd.merge.fork import complete_fork
from cowherd.herd.merge.holding import Layers, lock_all, stacked
from cowherd.herd.merge.offline import Offline
from cowherd.herd.merge.phases import Begun, Merge
from cowherd.herd.merge.plan import FORK, PRESERVE
from cowherd.herd.merge.planning import plan_merge
from cowherd.herd.merge.witness import bears_witness
from cowherd.herd.records.digest import digest_disk
from cowherd.herd.records.faults import RecordNotTrusted
from cowherd.herd.records.journal import SUFFIX, Entry, Journal, Phase
from cowherd.herd.records.ownership import is_journal, is_regular, is_vouched_for
from cowherd.herd.records.sealplace import seal_path
from cowherd.herd.seals.held import Held
from cowherd.live.holders import naming_holders
from cowherd.paths import path_names
from cowherd.storage.durable import make_durable
from cowherd.storage.holding import Holding
from cowherd.storage.locks import WRITE
from cowherd.storage.presence import is_there, look_up
from cowherd.storage.ticks import identity_after_tick
from cowherd.text import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.merge.steps import Left
    from cowherd.paths import PathName, PathNames
    from cowherd.progress import Progress

FINISHED, TAKEN_BACK, FAILED = "finished", "taken back", "failed"


@dataclass(frozen=True)
class Recovered:
    """What became of one interrupted merge.

    `outcome`: FINISHED, TAKEN_BACK, or FAILED for the reason in `error`. `left`: images whose binding or seal is out of date, or
    whose content is not what it was when the merge began, and why.
    """

    journal: Path
    overlay: Path | None
    base: Path | None
    outcome: str
    left: Sequence[Left] = ()
    error: CowherdError | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd recover --json` prints them."""
        return {
            "journal": os.fspath(self.journal),
            "overlay": os.fspath(self.overlay) if self.overlay else None,
            "base": os.fspath(self.base) if self.base else None,
            "outcome": self.outcome,
            "left": [{"path": os.fspath(path), "problem": problem} for path, problem in self.left],
            "error": str(self.error) if self.error else None,
        }


def recover(directories: PathNames = (), *, progress: Progress | None = None) -> list[Recovered]:
    """Ends every interrupted merge whose journal lies under `directories` (the current one by default), each by itself.

    A merge that runs, or one that can't be ended now (a machine has an image open, the disk is full), is FAILED and can be
    tried again. Directories below that this user may not look through are passed over.
    Raises `HostFileError` for a path that is no directory.
    """
    directories = path_names(directories)
    found = sorted({path for directory in directories or ["."] for path in _journals_under(directory)})
    with naming_holders():
        return [_recovered(path, progress) for path in found]


def _journals_under(directory: PathName) -> list[Path]:
    top = os.path.realpath(directory)
    found = journals_in(top)
    for current, _, files in os.walk(top, onerror=_raised):
        found += [Path(current, name) for name in files if name.endswith(SUFFIX) and is_journal(Path(current, name))]
    return found


def _raised(error: OSError) -> None:
    """Passes over a directory that this user may not look through. Raises `HostFileError` for any other error."""
    if error.errno != errno.EACCES:
        raise HostFileError(error.filename, "look through", error) from error


def _recovered(path: Path, progress: Progress | None) -> Recovered:
    entry = None
    try:
        with naming_holders():
            journal = Journal.open(path)
        entry = journal.entry
        try:
            _require_trusted(journal)
            _make_interrupted_run_durable(journal)
            left = _end(journal, progress)
        finally:
            journal.close()
    except CowherdError as error:
        return Recovered(path, entry.overlay if entry else None, entry.base if entry else None, FAILED, (), error)
    outcome = TAKEN_BACK if journal.phase is Phase.PREPARING else FINISHED
    return Recovered(path, entry.overlay, entry.base, outcome, left)


def _make_interrupted_run_durable(journal: Journal) -> None:
    """Makes durable what a killed merge, or one whose flush failed, left in memory, before that is believed and built on."""
    entry = journal.entry
    images = [path for path in (*entry.images, entry.temporary, entry.fork) if path is not None]
    make_durable(journal.path, *images, *map(seal_path, images))


def _end(journal: Journal, progress: Progress | None) -> list[Left]:
    entry = journal.entry
    lineage, base = _survey_concerned(entry, entry.base)
    _require_nobody_needs(lineage, journal)
    with naming_holders(), Holding() as held:
        begun = Begun(lineage=lineage, base=base, held=held, journal=journal, steps=Offline(held), progress=progress)
        if journal.phase is Phase.PREPARING:
            return begun.take_back()
        if entry.strategy == FORK:
            target, _ = complete_fork(lineage, base, entry, progress)
            lineage, target = _survey_concerned(entry, target.path)  # it has its name since, and overlays may stand on it
            begun = replace(begun, lineage=lineage, base=target)
        return _finish(begun)


def _finish(begun: Begun) -> list[Left]:
    """Merges what the overlay holds now, if it is there, into `begun.base` once more; a new base of a fork is complete by now."""
    lineage, entry = begun.lineage, begun.journal.entry
    overlay = lineage.known(entry.overlay)
    _be_alone(begun, overlay)
    changed = _no_longer_as_before(lineage, entry)
    rest = _merge_again(begun, overlay) if overlay else _finish_without_overlay(begun)
    return [*changed, *rest, *begun.conclude()]


def _be_alone(begun: Begun, overlay: Image | None) -> None:
    """Locks all images that are about to change. Raises `ImageInUse` if somebody has one open, with locks or without."""
    lineage, target = begun.lineage, begun.base
    concerned = [target, *lineage.children(target)]
    lock_all(begun.held, concerned, WRITE)
    if overlay:
        own = [overlay, *lineage.children(overlay)]
        lock_all(begun.held, own, WRITE)
        concerned += own
    require_free(concerned, lineage.chain(target), locks=False, held=begun.held)


def _require_trusted(journal: Journal) -> None:
    """Raises `RecordNotTrusted` for a journal whose writer may not do what it says.

    Anybody who may write in the directory can put a journal there. It is believed if it belongs to root, to this user, or to a
    user who also owns all images that it concerns; and if nobody else may write to it.
    """
    if is_vouched_for(journal.path):
        return
    info = os.lstat(journal.path)
    if not is_vouched_for(journal.path, info.st_uid):
        raise RecordNotTrusted(journal.path, "others than its owner may write to it")
    entry = journal.entry
    made = [entry.temporary] if entry.temporary else []
    there = {path: look_up(path, follow=False) for path in (entry.overlay, entry.base, *entry.images, *made)}
    others = sorted(path for path, found in there.items() if found is not None and found.st_uid != info.st_uid)
    if others:
        raise RecordNotTrusted(
            journal.path,
            f"user {info.st_uid} made it, and it concerns {preview(others)}, not that user's. If the merge is known to have been "
            f"meant, give the journal to who runs 'recover' (chown); if not, move it away",
        )


def _require_nobody_needs(lineage: Lineage, journal: Journal) -> None:
    """Raises `RecordNotTrusted` if the file that a journal calls unfinished has overlays, or is no file."""
    temporary = journal.entry.temporary
    if temporary is None or not is_there(temporary):
        return
    image = lineage.known(temporary)
    if not is_regular(temporary) or (image is not None and lineage.has_children(image)):
        raise RecordNotTrusted(journal.path, f"{shown(temporary)}, which it calls unfinished, is something else")


def _survey_concerned(entry: Entry, path: Path) -> tuple[Lineage, Image]:
    """Returns the herd around a merge as it is now, with every image that the merge concerns, and the base at `path` in it."""
    lineage = survey_around(path, *(image for image in entry.images if is_there(image)))
    base = lineage.find(path, entry.base_format)
    require_concerned(lineage, entry)
    return lineage, base


def _merge_again(begun: Begun, overlay: Image) -> list[Left]:
    """Plans and does everything once more. The new base of a fork is complete, and merged into like any other: little is left."""
    lineage, target, entry = begun.lineage, begun.base, begun.journal.entry
    above = _images_above(lineage, overlay, target, entry)
    with Layers(begun.held) as layers:
        plan = plan_merge(
            lineage,
            layers,
            above,
            target,
            strategy=PRESERVE,
            keep=entry.keep,
            fork=target.path,
            reflink=False,
            progress=begun.progress,
        )
    plan.check_space()
    merge = Merge(**vars(begun), plan=plan)
    merge.serve_siblings()
    return merge.apply()


def _images_above(lineage: Lineage, overlay: Image, target: Image, entry: Entry) -> list[Image]:
    base = lineage.find(entry.base, entry.base_format)
    above: list[Image] = []
    for image in lineage.chain(overlay):
        if image.key in (target.key, base.key):
            return above
        above.append(image)
    raise MergeFailed(overlay.path, f"it does not stand on {shown(entry.base)} any more")


def _finish_without_overlay(begun: Begun) -> list[Left]:
    """Updates the base's seal and its overlays' bindings: the overlay is gone, so the base was complete and verified."""
    lineage, base, steps = begun.lineage, begun.base, begun.steps
    identity = identity_after_tick(base.path)
    with stacked(lineage.chain(base)) as disk:
        digests = digest_disk(disk, begun.progress)
    record = steps.reseal(lineage, base, Held(digests, identity))
    return [problem for child in lineage.children(base) for problem in steps.bind(child, record)]


def _no_longer_as_before(lineage: Lineage, entry: Entry) -> list[Left]:
    """Returns the direct overlays of the base that do not show what they did when the merge began, and why."""
    changed = extents.ranges([(start, start + length) for start, length in entry.changed])
    found = []
    for witness in entry.witnesses:
        image = lineage.known(witness.path)
        if image is None:
            found.append((witness.path, "it is gone"))
            continue
        with stacked(lineage.chain(image)) as disk:
            now = bears_witness(disk, changed, whole=witness.whole)
        if now != witness.digest:
            found.append((image.path, "it does not show what it did when the merge began; has a machine run on it meanwhile?"))
    return found
