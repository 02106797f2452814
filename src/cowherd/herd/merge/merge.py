"""Merging an overlay into its base, or into any image that it stands on, while every other disk of the herd reads as before.

docs/merge.md describes the order of the steps, and why a merge can be interrupted anywhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cowherd.errors import InvalidRequest
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.requirements import require_one_format, require_readable
from cowherd.herd.lineage.survey import survey_again, survey_around
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.merge import bystanders
from cowherd.herd.merge.chain import find_target, images_above
from cowherd.herd.merge.fork import can_reflink, free_name, named_fork
from cowherd.herd.merge.holding import Layers, lock_all
from cowherd.herd.merge.journaling import name_taken, write_journal
from cowherd.herd.merge.offline import Offline
from cowherd.herd.merge.phases import Merge
from cowherd.herd.merge.plan import AUTO, EMPTY, FORK, KEEPS, NOTHING, PRESERVE, STRATEGIES, MergePlan
from cowherd.herd.merge.planning import plan_merge
from cowherd.herd.merge.requirements import require_nobody_new, require_possible
from cowherd.herd.records.faults import HerdNotReadable, OverlaysUnseen
from cowherd.live.holders import naming_holders
from cowherd.paths import path_names
from cowherd.storage.filetype import is_device
from cowherd.storage.holding import Holding
from cowherd.storage.locks import READ, WRITE
from cowherd.storage.opening import require_host
from cowherd.storage.presence import is_there

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.merge.steps import Left
    from cowherd.paths import PathName, PathNames
    from cowherd.progress import Progress


class _Choices(NamedTuple):
    """What the caller of `merge` decided; see there."""

    strategy: str
    keep: str
    new_base: PathName | None
    ignore_unreadable: bool


@dataclass(frozen=True, eq=False)
class Merged:
    """What a merge did: its plan, whether it was carried out, and images whose binding or seal is `left` out of date, and why."""

    plan: MergePlan
    done: bool
    left: Sequence[Left] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd merge --json` prints them."""
        left = [{"path": os.fspath(path), "problem": problem} for path, problem in self.left]
        return self.plan.to_json() | {"done": self.done, "left": left}


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
    herd: PathNames = (),
    progress: Progress | None = None,
) -> Merged:
    """Merges `overlay` into its base, or into the image `into` of its chain; every other disk keeps its content.

    `strategy`: "preserve" writes what other overlays would lose into them; "fork" leaves the base alone and makes a new one
    beside it, named `new_base` (a free name by default), for the overlay's own overlays; "auto" takes the one that writes less.
    `keep`: the overlay is removed ("nothing"), emptied ("empty"), or left as it is ("content") when all has been verified.
    `dry_run` only plans. Files of the herd that can't be read may be overlays: only "fork" keeps their content, so "auto" takes
    it then; with `ignore_unreadable` they don't count. An overlay that a libvirt domain names is not removed (`DiskOfDomain`);
    with `update_domains` the domain is redefined to use what the overlay was merged into, and then the overlay is removed.

    Raises, with nothing changed: `HerdNotReadable`, `InvalidRequest`, `BaseSealed` for a sealed overlay that would not be
    kept, `DriftFound` for a base or overlay that is not as its seal says, `BindingContradicted`, `ImageInUse`,
    `NotEnoughSpace`, `MergePending`, `UnsupportedFeature`. Raises `MergeInterrupted` if it fails later: then `recover` finishes
    it.
    """
    herd = path_names(herd)
    _check_choices(strategy, keep)
    lineage = survey_around(overlay, *([into] if into else []), herd=herd)
    top = lineage.find(overlay)
    base = find_target(lineage, top, into)
    namings = bystanders.required_for_domains(top, keep, update_domains=update_domains)
    keep = EMPTY if namings else keep  # it is removed once the domain has been redefined
    choices = _Choices(strategy, keep, new_base, ignore_unreadable)
    with bystanders.suggesting_fork(lineage, top, strategy), naming_holders(), Holding() as held:
        lock_for_planning(held, lineage, top, base, strategy, keep)
        if not dry_run:
            require_free([top], lineage.chain(top), locks=False, held=held)
        lineage = survey_again(lineage)  # what was written until the locks were taken counts
        with Layers(held) as layers:
            plan = _make_plan(lineage, layers, (lineage.find(top.path), lineage.find(base.path)), choices, progress)
        if dry_run:
            return Merged(plan, done=False)
        merge = _begin(held, lineage, plan, choices, progress)
        left = merge.carry_out()
    if namings:
        left += bystanders.remove_from_domains(lineage, merge.plan, namings)
    return Merged(merge.plan, True, left)


def _make_plan(
    lineage: Lineage, layers: Layers, ends: tuple[Image, Image], choices: _Choices, progress: Progress | None
) -> MergePlan:
    """Plans, under the locks for it, to merge the first of `ends` into the second. Refuses what can't be done; writes nothing."""
    top, base = ends
    above = images_above(lineage, top, base)
    require_none(lineage, [*lineage.chain(top), *lineage.dependents(base)], "merge")
    require_one_format(lineage, lineage.chain(top), "merge into")
    fork = named_fork(base, choices.new_base) if choices.new_base else free_name(base)
    plan = plan_merge(
        lineage,
        layers,
        above,
        base,
        strategy=_strategy_for(lineage, base, choices),
        keep=choices.keep,
        fork=fork,
        reflink=can_reflink(require_host(layers.of(base).file)),
        progress=progress,
    )
    require_possible(lineage, layers, plan)
    if plan.strategy == FORK and choices.new_base and is_there(plan.fork):
        raise name_taken(plan.fork)
    return plan


def _strategy_for(lineage: Lineage, base: Image, choices: _Choices) -> str:
    """Returns the strategy, AUTO if the cost decides."""
    if choices.strategy == AUTO and is_device(base.path):
        return PRESERVE
    if choices.strategy == AUTO and not choices.ignore_unreadable and _may_be_more(lineage, base):
        return FORK
    return choices.strategy


def _begin(held: Holding, lineage: Lineage, plan: MergePlan, choices: _Choices, progress: Progress | None) -> Merge:
    """Locks for writing what the plan changes, and writes the journal. When it raises, nothing has changed."""
    if plan.strategy == PRESERVE and not choices.ignore_unreadable:
        require_readable(lineage, plan.base, "merge into")
    plan.check_space()
    lock_for_writing(held, lineage, plan)
    bystanders.require_free_for(lineage, plan, held)
    require_nobody_new(lineage, plan)
    plan, journal = write_journal(lineage, plan, named=choices.new_base is not None)
    return Merge(lineage=lineage, base=plan.base, held=held, journal=journal, plan=plan, steps=Offline(held), progress=progress)


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


def lock_for_planning(held: Holding, lineage: Lineage, top: Image, base: Image, strategy: str, keep: str) -> None:
    """Locks what planning reads, so that QEMU can't write to it. Raises `ImageInUse` if a machine already writes to it."""
    lock_all(held, lineage.chain(top), READ)
    if strategy != FORK:
        lock_all(held, lineage.children(base), READ)
    if keep == NOTHING:
        lock_all(held, lineage.children(top), READ)


def lock_for_writing(held: Holding, lineage: Lineage, plan: MergePlan) -> None:
    """Locks for writing what the plan changes. Raises `ImageInUse` even if a machine only reads it."""
    if plan.strategy == PRESERVE:
        lock_all(held, [plan.base, *lineage.children(plan.base)], WRITE)
    lock_all(held, [plan.overlay], WRITE)
    if plan.keep == NOTHING:
        lock_all(held, lineage.children(plan.overlay), WRITE)
