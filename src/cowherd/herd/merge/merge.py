"""Merging an overlay into its base, or into any image that it stands on, with every other disk of the herd left as it reads.

docs/merge.md says in which order what is done, and why it can be interrupted anywhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cowherd.errors import (
    BaseSealed,
    CowherdError,
    FlushFailed,
    HostFileError,
    ImageInUse,
    InvalidRequest,
    UnsupportedFeature,
)
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.image import Qcow2
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.requirements import require_one_format, require_readable
from cowherd.herd.lineage.survey import survey_again, survey_around
from cowherd.herd.machines.domains import require_unnamed
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.merge import bystanders
from cowherd.herd.merge.concerned import require_concerned
from cowherd.herd.merge.fork import build_fork, can_reflink, complete_fork, free_name, named_fork
from cowherd.herd.merge.holding import Holding, stacked
from cowherd.herd.merge.plan import AUTO, CONTENT, EMPTY, FORK, KEEPS, NOTHING, PRESERVE, STRATEGIES, MergePlan, plan_merge
from cowherd.herd.merge.snapshots import largest_size, require_no_snapshots
from cowherd.herd.merge.steps import (
    apply_down,
    bind_to,
    copy_up,
    delete_image,
    empty_overlay,
    put_on,
    reference_to,
    require_room_for_name,
    reseal_base,
    verify_content,
    verify_served,
)
from cowherd.herd.records.faults import DriftFound, HerdNotReadable, OverlaysUnseen
from cowherd.herd.records.journal import Entry, Journal, Phase, Witness, journal_path, require_journal_free
from cowherd.herd.records.sidecars import require_liftable, require_sidecars_free
from cowherd.herd.repair.preserve import refresh_dependents
from cowherd.herd.seals.drift import pairs
from cowherd.herd.seals.evidence import require_uncontradicted
from cowherd.herd.seals.quick_check import condition
from cowherd.herd.seals.seal import made_by
from cowherd.live.holders import naming_holders
from cowherd.storage.atomic import temporary_name
from cowherd.storage.filetype import is_device, refuse_device_node
from cowherd.storage.identity import make_lasting
from cowherd.storage.locks import READ, WRITE
from cowherd.storage.presence import is_there
from cowherd.storage.transfer import take_name
from cowherd.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.paths import PathName
    from cowherd.progress import Progress


class MergeInterrupted(CowherdError):
    """A merge stopped after it had begun to change the base. Attributes: `base`, `overlay`, `journal`, `reason`."""

    def __init__(self, base: Path, overlay: Path, journal: Path, reason: BaseException):
        self.base, self.overlay, self.journal = base, overlay, journal
        self.reason = str(reason) or type(reason).__name__
        self.exit_code = getattr(reason, "exit_code", CowherdError.exit_code)

    def __str__(self) -> str:
        return (
            f"the merge of {shown(self.overlay)} into {shown(self.base)} was interrupted: {self.reason}. All other disks "
            f"read as before; 'cowherd recover {shown(self.journal.parent)}' finishes it"
        )


@dataclass(frozen=True, eq=False)
class Merged:
    """What a merge did: its plan, whether it was carried out, and images whose binding or seal is `left` out of date, and why."""

    plan: MergePlan
    done: bool
    left: Sequence[tuple[Path, str]] = ()


def merge(
    overlay: PathName,
    *,
    into: PathName | None = None,
    strategy: str = AUTO,
    keep: str = NOTHING,
    new_base: PathName | None = None,
    dry_run: bool = False,
    ignore_unreadable: bool = False,
    update_domains: bool = False,
    herd: Sequence[PathName] = (),
    progress: Progress | None = None,
) -> Merged:
    """Merges `overlay` into its base, or into the image `into` of its chain; every other disk keeps its content.

    `strategy`: "preserve" writes what other overlays would lose into them; "fork" leaves the base alone and makes a new one
    beside it, named `new_base` (a free name by default), for the overlay's own overlays; "auto" takes the one that writes less.
    `keep`: the overlay is removed ("nothing"), emptied ("empty"), or left as it is ("content") when all has been verified.
    `dry_run` only plans. Files of the herd that can't be read may be overlays: only "fork" keeps those, and "auto" takes it then;
    with `ignore_unreadable` they don't count. An overlay that a libvirt domain names is not removed (`DiskOfDomain`), but with
    `update_domains` it is once the domain is defined with what it was merged into.

    Raises, with nothing changed: `HerdNotReadable`, `InvalidRequest`, `BaseSealed` for a sealed overlay that would not be
    kept, `DriftFound` for a base or overlay that is not as its seal says, `BindingContradicted`, `ImageInUse`,
    `NotEnoughSpace`, `MergePending`, `UnsupportedFeature`. Raises `MergeInterrupted` if it fails later: then `recover` finishes
    it.
    """
    _check_choices(strategy, keep)
    lineage = survey_around(overlay, *([into] if into else []), herd=herd)
    top = lineage.find(overlay)
    base = _target(lineage, top, into)
    namings = bystanders.required_for_domains(top, keep, update_domains=update_domains)
    keep = EMPTY if namings else keep  # it goes when the domain has been told
    with bystanders.suggesting_fork(lineage, top, strategy), naming_holders(), Holding() as held:
        lock_for_planning(held, lineage, top, base, strategy, keep)
        if not dry_run:
            require_free([top], lineage.chain(top), locks=False)
        lineage = survey_again(lineage)
        top, base = lineage.find(top.path), lineage.find(base.path)
        above = images_above(lineage, top, base)
        require_none(lineage, [*lineage.chain(top), *lineage.dependents(base)], "merge")
        require_one_format(lineage, lineage.chain(top), "merge into")
        fork = named_fork(base, new_base) if new_base else free_name(base)
        if strategy == AUTO and is_device(base.path):
            strategy = PRESERVE
        if strategy == AUTO and not ignore_unreadable and _may_be_more(lineage, base):
            strategy = FORK
        plan = plan_merge(lineage, above, base, strategy, keep, fork, reflink=can_reflink(base), progress=progress)
        _require_possible(lineage, plan)
        if plan.strategy == FORK and new_base and is_there(plan.fork):
            raise _taken(plan.fork)
        if dry_run:
            return Merged(plan, done=False)
        if plan.strategy == PRESERVE and not ignore_unreadable:
            require_readable(lineage, base, "merge into")
        plan.check_space()
        lock_for_writing(held, lineage, plan)
        bystanders.require_free_for(lineage, plan)
        _require_nobody_new(lineage, plan)
        plan, journal = _write_journal(lineage, plan, named=new_base is not None)
        left = _carry_out(held, lineage, plan, journal, progress)
    if namings:
        left += bystanders.remove_from_domains(lineage, plan, namings)
    return Merged(plan, True, left)


def _may_be_more(lineage: Lineage, base: Image) -> bool:
    """Whether there may be overlays of the base that nobody can look at now."""
    try:
        require_readable(lineage, base, "merge into")
    except (HerdNotReadable, OverlaysUnseen):
        return True
    return False


def _check_choices(strategy: str, keep: str) -> None:
    if strategy not in STRATEGIES:
        raise InvalidRequest(f"there is no strategy {strategy!a}: {', '.join(STRATEGIES)}")
    if keep not in KEEPS:
        raise InvalidRequest(f"an overlay can't be kept as {keep!a}: {', '.join(KEEPS)}")


def _target(lineage: Lineage, top: Image, into: PathName | None) -> Image:
    """Returns the image to merge into. Raises `InvalidRequest` if it is not below the overlay, or the chain is not whole."""
    chain = lineage.chain(top)
    broken = lineage.broken(chain[-1])
    if lineage.in_loop(top) or broken:
        problem = f"{shown(broken.name)}: {broken.problem}" if broken else "it is a loop"
        raise InvalidRequest(f"the chain of {shown(top.path)} can't be followed: {problem}")
    if into is None:
        if len(chain) < 2:
            raise InvalidRequest(f"{shown(top.path)} has no backing file to merge into")
        return chain[1]
    target = lineage.find(into)
    if target.key not in [image.key for image in chain[1:]]:
        raise InvalidRequest(f"{shown(top.path)} does not stand on {shown(into)}")
    return target


def images_above(lineage: Lineage, top: Image, base: Image) -> list[Image]:
    """Returns `top` and what lies between it and `base`. Raises `InvalidRequest` if it does not stand on it, any more or ever."""
    chain = lineage.chain(top)
    keys = [image.key for image in chain]
    if base.key not in keys:
        raise InvalidRequest(f"{shown(top.path)} does not stand on {shown(base.path)}")
    return chain[: keys.index(base.key)]


def lock_for_planning(held: Holding, lineage: Lineage, top: Image, base: Image, strategy: str, keep: str) -> None:
    """Keeps QEMU from writing to whatever is looked at. Raises `ImageInUse` where a machine writes already."""
    held.lock(lineage.chain(top), READ)
    if strategy != FORK:
        held.lock(lineage.children(base), READ)
    if keep == NOTHING:
        held.lock(lineage.children(top), READ)


def lock_for_writing(held: Holding, lineage: Lineage, plan: MergePlan) -> None:
    """Takes the rights to change what the plan changes. Raises `ImageInUse` where a machine only reads, too."""
    if plan.strategy == PRESERVE:
        held.lock([plan.base, *lineage.children(plan.base)], WRITE)
    held.lock([plan.overlay], WRITE)
    if plan.keep == NOTHING:
        held.lock(lineage.children(plan.overlay), WRITE)


def _require_nobody_new(lineage: Lineage, plan: MergePlan) -> None:
    """Raises `ImageInUse` if an overlay was made since the plan was: it would not be kept from the change."""
    now = survey_again(lineage)
    for image in (plan.base, plan.overlay):
        if {child.key for child in now.children(now.find(image.path))} != {child.key for child in lineage.children(image)}:
            raise ImageInUse(image.path, "write", shared=True)


def _require_possible(lineage: Lineage, plan: MergePlan) -> None:
    """Raises for everything that would stop the merge half way and can be known beforehand."""
    written = [one.image for one in plan.served] if plan.strategy == PRESERVE else []
    for image in (plan.overlay, plan.base, *written):
        _require_sound(lineage, image)
    above = lineage.children(plan.overlay) if plan.keep == NOTHING else ()
    require_uncontradicted(lineage, [plan.overlay, *lineage.children(plan.base), *above], "merge")
    require_no_snapshots(plan, written)
    require_journal_free(plan.base.path)
    _require_liftable(lineage, plan)
    if plan.overlay.seal and plan.keep != CONTENT:
        hit = [dependent.path for dependent in lineage.dependents(plan.overlay)]
        raise BaseSealed(plan.overlay.path, "merge away", hit)
    if plan.keep == NOTHING:
        refuse_device_node(plan.overlay.path, "delete", "--keep empty or --keep content leaves it")
    if plan.strategy == FORK:
        refuse_device_node(plan.base.path, "make a new base beside", "--strategy preserve merges into it")
    if plan.new_size > plan.old_size:
        _require_growth(plan.base)
    _require_repointing(lineage, plan)


def _require_liftable(lineage: Lineage, plan: MergePlan) -> None:
    """Raises `ProtectedByOthers` for an image that is to be written to or removed and that somebody else has made immutable."""
    written = [plan.base, *(one.image for one in plan.served if one.is_written)] if plan.strategy == PRESERVE else []
    if plan.keep != CONTENT:
        written += [plan.overlay, *(lineage.children(plan.overlay) if plan.keep == NOTHING else ())]
    for image in written:
        require_liftable(image.path, "merge into, or remove," if image is plan.overlay else "write to", seal=image.seal)
    if plan.strategy == FORK and plan.base.seal:
        require_sidecars_free(plan.fork, shadow=True)


def _require_sound(lineage: Lineage, image: Image) -> None:
    now = condition(lineage, image)
    if image.seal and not now.status.holds:
        raise DriftFound(image.path, now.status, "merge")
    with stacked([image]) as disk:
        layer = disk.layers[0]
        if not isinstance(layer, Qcow2):
            return
        if layer.header.corrupt:
            raise UnsupportedFeature(image.path, "merging with an image that is marked corrupt")
        if layer.header.extension(layout.EXTENSION_BITMAPS) and layer.header.autoclear & layout.AUTOCLEAR_BITMAPS:
            raise UnsupportedFeature(image.path, "merging with an image that has persistent bitmaps")


def _require_growth(base: Image) -> None:
    if base.path.is_block_device():
        raise InvalidRequest(f"{shown(base.path)} is a block device smaller than the overlay")


def _require_repointing(lineage: Lineage, plan: MergePlan) -> None:
    """An overlay that goes needs its own overlays to stand on the base instead, and to see the same there."""
    target = _new_base_of(plan)
    if plan.keep == NOTHING:
        for child in lineage.children(plan.overlay):
            require_room_for_name(child, reference_to(target, child))
            if plan.new_size > (plan.overlay.size or 0) < largest_size(child):
                raise InvalidRequest(
                    f"{shown(child.path)}, or an internal snapshot of it, is larger than the overlay that it stands on, and so "
                    f"is the base: it would see the base's end. Keep the overlay (--keep empty)"
                )
    if plan.keep == EMPTY and not _stands_on(lineage, plan.overlay, target):
        require_room_for_name(plan.overlay, reference_to(target, plan.overlay))


def _new_base_of(plan: MergePlan) -> Image:
    if plan.strategy == PRESERVE:
        return plan.base
    return plan.base._replace(key=(-1, -1), filenames=(os.fspath(plan.fork),))


def _stands_on(lineage: Lineage, overlay: Image, base: Image) -> bool:
    parent = lineage.parent(overlay)
    return parent is not None and parent.key == base.key


def _write_journal(lineage: Lineage, plan: MergePlan, *, named: bool) -> tuple[MergePlan, Journal]:
    """Writes the journal, and returns the plan with a new base whose name is free now: another merge may have taken it since.

    Raises `InvalidRequest` if it is `named`, and taken.
    """
    while True:
        journal = Journal.create(journal_path(plan.base.path), _entry(lineage, plan))
        try:
            if plan.strategy != FORK or not is_there(plan.fork):
                return plan, journal
        except HostFileError:
            journal.remove()
            raise
        journal.remove()
        if named:
            raise _taken(plan.fork)
        plan = replace(plan, fork=free_name(plan.base))


def _taken(fork: Path) -> InvalidRequest:
    return InvalidRequest(f"the new base {shown(fork)} is there already")


def _carry_out(
    held: Holding, lineage: Lineage, plan: MergePlan, journal: Journal, progress: Progress | None
) -> list[tuple[Path, str]]:
    try:
        if plan.strategy == FORK:
            build_fork(lineage, plan, journal.entry, progress)
        else:
            serve(lineage, plan, progress)
        journal.advance(Phase.APPLYING)
    except BaseException as error:
        _taken_back_after(error, held, lineage, journal, plan)
        raise
    try:
        if plan.strategy == FORK:
            target, record = complete_fork(lineage, plan.base, journal.entry, progress)
            left = give_up(lineage, plan, target, record)
        else:
            left = apply(lineage, plan, progress)
        return left + conclude(held, lineage, journal, plan.base, progress)
    except (CowherdError, OSError, KeyboardInterrupt) as error:
        raise MergeInterrupted(plan.base.path, plan.overlay.path, journal.path, error) from error
    finally:
        journal.close()


def _taken_back_after(error: BaseException, held: Holding, lineage: Lineage, journal: Journal, plan: MergePlan) -> None:
    if isinstance(error, FlushFailed):  # what is not known to be on the disk is read from there first, which `recover` does
        journal.close()
        raise MergeInterrupted(plan.base.path, plan.overlay.path, journal.path, error) from error
    try:
        take_back(held, lineage, journal, plan.base)
    except (CowherdError, OSError) as another:
        raise MergeInterrupted(plan.base.path, plan.overlay.path, journal.path, another) from error
    finally:
        journal.close()


def take_back(
    held: Holding, lineage: Lineage, journal: Journal, base: Image, progress: Progress | None = None
) -> list[tuple[Path, str]]:
    """Ends a merge that has changed nothing that any disk shows. Overlays may hold more of what they showed before."""
    if journal.entry.temporary is not None:
        take_name(journal.entry.temporary)  # a plain name beside the base, of an unfinished file: the journal can say no other
    return conclude(held, lineage, journal, base, progress)


def serve(lineage: Lineage, plan: MergePlan, progress: Progress | None) -> None:
    """Gives the direct overlays of the base what they would lose."""
    for one in plan.served:
        if one.is_written:
            copy_up(lineage, one.writes, progress)
        else:
            make_lasting(one.image.path)  # that it has its own copy may be what a machine that was killed left in memory


def apply(lineage: Lineage, plan: MergePlan, progress: Progress | None) -> list[tuple[Path, str]]:
    """Does what follows once the direct overlays of the base are served, up to giving up the overlay."""
    apply_down(lineage, plan, plan.base, progress)
    content = verify_content(lineage.chain(plan.base), plan.predicted, progress)
    verify_served(lineage, plan.served, plan.changed)
    record = reseal_base(lineage, plan.base, content)
    left = [problem for one in plan.served for problem in bind_to(one.image, record)]
    return left + give_up(lineage, plan, plan.base, record)


def conclude(held: Holding, lineage: Lineage, journal: Journal, base: Image, progress: Progress | None) -> list[tuple[Path, str]]:
    """Brings the seals of dependents up to date, whose files have changed, and removes the journal."""
    held.close()
    entry, left = journal.entry, list[tuple[Path, str]]()
    now = survey_again(lineage)
    bases = [now.find(path, entry.base_format) for path in {base.path, entry.fork or base.path} if is_there(path)]
    require_concerned(now, entry)
    for image in bases:
        left += refresh_dependents(now, image, progress)
    journal.remove()
    return left


def give_up(lineage: Lineage, plan: MergePlan, target: Image, record: SealRecord | None) -> list[tuple[Path, str]]:
    """Removes or empties the overlay, whose content `target` holds by now; what stands on one that goes is put on `target`."""
    overlay, left = plan.overlay, []
    if plan.keep != CONTENT:
        require_free([overlay], locks=False)
    if plan.keep == NOTHING:
        require_unnamed([overlay], "remove", bystanders.KEEP_FOR_DOMAIN)
        for child in lineage.children(overlay):
            left += put_on(child, target, record)
        delete_image(overlay)
    elif plan.keep == EMPTY:
        left += bind_to(overlay, record) if _stands_on(lineage, overlay, target) else put_on(overlay, target, record)
        empty_overlay(overlay)
    elif _stands_on(lineage, overlay, target):
        left += bind_to(overlay, record)
    return left


def _entry(lineage: Lineage, plan: MergePlan) -> Entry:
    fork = plan.strategy == FORK
    followers = lineage.dependents(plan.overlay if fork else plan.base)
    concerned = {image.path for image in (*plan.above, plan.base, *followers)}
    return Entry(
        strategy=plan.strategy,
        keep=plan.keep,
        overlay=plan.overlay.path,
        base=plan.base.path,
        base_format=plan.base.format,
        images=tuple(sorted(concerned)),
        changed=tuple((start, length) for start, length in pairs(plan.changed)),
        witnesses=() if fork else tuple(Witness(one.image.path, one.witness, one.is_written) for one in plan.served),
        temporary=temporary_name(plan.fork) if fork else None,
        fork=plan.fork if fork else None,
        begun=datetime.now(UTC).isoformat(timespec="seconds"),
        made_by=made_by(),
    )
