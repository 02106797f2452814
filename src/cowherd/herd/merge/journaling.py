"""The journal with which a merge begins: it tells everybody who meets the herd that the merge is under way."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cowherd.distribution import made_by
from cowherd.errors import HostFileError, InvalidRequest
from cowherd.herd.merge.fork import free_name
from cowherd.herd.merge.plan import FORK
from cowherd.herd.records.journal import Entry, Journal, Witness, journal_path
from cowherd.herd.seals.drift import pairs
from cowherd.paths import as_path
from cowherd.storage.atomic import temporary_name
from cowherd.storage.presence import is_there
from cowherd.text import shown

if TYPE_CHECKING:
    from pathlib import Path

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.merge.plan import MergePlan


def write_journal(lineage: Lineage, plan: MergePlan, *, named: bool) -> tuple[MergePlan, Journal]:
    """Writes the journal; returns the plan, with a free name for the new base, and the journal.

    Another merge may have taken the planned name since. Raises `InvalidRequest` if that is so and the caller chose it (`named`).
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
            raise name_taken(plan.fork)
        plan = replace(plan, fork=free_name(plan.base))


def name_taken(fork: Path) -> InvalidRequest:
    """Returns the error for a new base whose name another file has."""
    return InvalidRequest(f"the new base {shown(fork)} is there already")


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
        temporary=as_path(temporary_name(plan.fork)) if fork else None,
        fork=plan.fork if fork else None,
        begun=datetime.now(UTC).isoformat(timespec="seconds"),
        made_by=made_by(),
    )
