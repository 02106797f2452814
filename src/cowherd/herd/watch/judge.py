"""Turns a finding into events, in view of what was known before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cowherd.errors import preview
from cowherd.extents import total
from cowherd.herd.impact.verdict import INTACT, Hit
from cowherd.herd.records.sealrecord import SealRecord
from cowherd.herd.seals.drift import pairs
from cowherd.herd.watch.events import Kind, Level
from cowherd.herd.watch.examine import Finding, Outcome, hit_facts, is_less_protected
from cowherd.herd.watch.incident import Incident
from cowherd.live.process import Process
from cowherd.sizes import human_size
from cowherd.text import counted, overlays_depend, printable

_MAX_RANGES = 256


@dataclass(frozen=True)
class Judgement:
    """An event without its time and its base."""

    kind: Kind
    level: Level
    message: str
    processes: tuple[Process, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def judged(before: Finding | None, sealed: SealRecord | None, found: Finding, incident: Incident | None) -> Iterator[Judgement]:
    """Yields what to report of `found`, given the finding before it (None the first time) and the seal known until now.

    It does not repeat an earlier report, unless a new incident led to the same state.
    """
    processes = tuple(incident.processes.values()) if incident else ()
    if found.outcome is Outcome.FINE:
        yield from _judge_fine(before, sealed, found, incident, processes)
    elif (incident and incident.alarmed) or before is None or not _is_the_same(before, found):
        yield from _judge_worse(found, processes)


def _is_the_same(before: Finding, found: Finding) -> bool:
    same_ranges = before.changed.shape == found.changed.shape and bool((before.changed == found.changed).all())
    return before.outcome is found.outcome and same_ranges and before.detail == found.detail


def _judge_fine(
    before: Finding | None, sealed: SealRecord | None, found: Finding, incident: Incident | None, processes: tuple[Process, ...]
) -> Iterator[Judgement]:
    record = found.record
    facts = {"dependents": _names(found.dependents), "content_read": found.was_read}
    if record and (sealed is None or sealed.content_digest != record.content_digest or sealed.seal_id != record.seal_id):
        message = f"sealed anew: generation {record.generation} of its seal, {counted(len(found.dependents), 'dependent')}"
        yield Judgement(Kind.RESEALED, Level.NOTICE, message, processes, {**facts, "generation": record.generation})
    elif (before and before.outcome is not Outcome.FINE) or (incident and incident.alarmed):
        how = "its content was read and" if found.was_read else "it"
        yield Judgement(Kind.INTACT, Level.NOTICE, f"{how} is as sealed", (), facts)
    elif found.was_read:
        yield Judgement(Kind.VERIFIED, Level.INFO, "its content was read and is as sealed", (), facts)
    if found.contradicted and not (before and before.contradicted == found.contradicted):
        those = counted(len(found.contradicted), "overlay was", "overlays were")
        message = f"{those} made on other content: {preview(found.contradicted)}"
        yield Judgement(Kind.CONTRADICTED, Level.WARNING, message, processes, {"overlays": _names(found.contradicted)})
    if is_less_protected(found) and not (before and is_less_protected(before)):
        assert found.record is not None
        assert found.level is not None
        message = f"its file is {found.level.label}, and was sealed as {found.record.level.label}"
        yield Judgement(Kind.UNPROTECTED, Level.WARNING, message, processes, {"protection": found.level.label})


def _judge_worse(found: Finding, processes: tuple[Process, ...]) -> Iterator[Judgement]:
    dependents = {"dependents": _names(found.dependents)}
    if found.outcome is Outcome.DRIFTED:
        yield Judgement(Kind.DRIFTED, Level.ERROR, _drift_in_words(found), processes, _drift_facts(found))
    elif found.outcome is Outcome.DAMAGED:
        yield Judgement(Kind.DAMAGED, Level.ERROR, found.detail, processes, dependents)
    elif found.outcome is Outcome.UNREADABLE:
        yield Judgement(Kind.UNREADABLE, Level.WARNING, found.detail, processes, dependents)
    elif found.outcome is Outcome.INTERRUPTED:
        yield Judgement(Kind.INTERRUPTED, Level.WARNING, found.detail, processes, dependents)
    elif found.outcome is Outcome.UNSEALED:
        yield _unsealed(found, processes)
    elif found.outcome is Outcome.GONE:
        yield _gone(found, processes)


def _unsealed(found: Finding, processes: tuple[Process, ...]) -> Judgement:
    facts = {"dependents": _names(found.dependents)}
    if found.dependents:
        message = f"it has no seal any more, while {overlays_depend(len(found.dependents))} on it; it is not watched any more"
        return Judgement(Kind.UNSEALED, Level.WARNING, message, processes, facts)
    return Judgement(Kind.UNSEALED, Level.NOTICE, "it has no seal any more; it is not watched any more", processes, facts)


def _gone(found: Finding, processes: tuple[Process, ...]) -> Judgement:
    facts = {"dependents": _names(found.dependents)}
    if found.dependents:
        message = (
            f"it is gone, and {counted(len(found.dependents), 'overlay')} can't be read without it: {preview(found.dependents)}"
        )
        return Judgement(Kind.REMOVED, Level.ERROR, message, processes, facts)
    return Judgement(Kind.REMOVED, Level.NOTICE, "it is gone, and nothing depends on it", processes, facts)


def _drift_in_words(found: Finding) -> str:
    hit = [one for one in found.hits if one.overall != INTACT]
    whom = (
        f"; hit: {', '.join(f'{printable(one.path.name)} ({_hit_in_words(one)})' for one in hit[:3])}"
        if hit
        else "; no overlay is hit"
    )
    more = f" and {len(hit) - 3} more" if len(hit) > 3 else ""
    blocks = counted(found.blocks, "block")
    parts = [f"{blocks}, {human_size(total(found.changed))}, {'differs' if found.blocks == 1 else 'differ'} from what was sealed"]
    parts += [found.detail] if found.detail else []
    parts += ["it is still being written to"] if found.still_changing else []
    return "; ".join(parts) + whom + more


def _hit_in_words(hit: Hit) -> str:
    worst = [snapshot for snapshot in hit.snapshots if snapshot.verdict == hit.overall]
    return hit.overall if hit.verdict == hit.overall else f"its snapshot {printable(worst[0].label)} {hit.overall}"


def _drift_facts(found: Finding) -> dict[str, Any]:
    return {
        "blocks": found.blocks,
        "changed_bytes": total(found.changed),
        "changed": pairs(found.changed[:_MAX_RANGES]),
        "changed_ranges": len(found.changed),
        "still_changing": found.still_changing,
        "overlays": hit_facts(found),
    }


def _names(paths: Iterable[Path]) -> list[str]:
    return [os.fspath(path) for path in paths]
