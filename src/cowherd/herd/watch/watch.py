"""The watch itself: decides what notices and findings mean. It never waits: callers pass the time and ask what is due."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cowherd.errors import CowherdError, HostFileError
from cowherd.herd.records.journal import SUFFIX as JOURNAL_SUFFIX
from cowherd.herd.records.journal import journal_path, look_at
from cowherd.herd.records.sealrecord import SUFFIX as SEAL_SUFFIX
from cowherd.herd.records.sealrecord import SealRecord
from cowherd.herd.watch.events import Event, Kind, Level
from cowherd.herd.watch.examine import Finding, Outcome
from cowherd.herd.watch.incident import Incident
from cowherd.herd.watch.judge import judged
from cowherd.herd.watch.stock import Base, Stock
from cowherd.live.holders import writers
from cowherd.live.notices import Notice, What
from cowherd.live.process import Process, SeenProcesses, suspect
from cowherd.storage.identity import FileIdentity
from cowherd.text import printable

_OWN_PROGRAM = "cowherd"
_OWN_MODULE = "cowherd.cli.guard"


@dataclass
class Known:
    """What the watch remembers of a base: its seal, the last finding, and the identity of its file then.

    `read_at` is when its content was last read, by the watch's clock; `verified` is when that last matched the seal, in seconds
    since 1970; None for never. `writes` counts notices.
    """

    record: SealRecord | None
    last: Finding | None = None
    identity: FileIdentity | None = None
    read_at: float | None = None
    verified: float | None = None
    writes: int = 0

    @property
    def is_fine(self) -> bool:
        """Whether the last finding, if there is one, was fine."""
        return self.last is None or self.last.outcome is Outcome.FINE


class Watch:
    """Turns notices into incidents and events. It calls `report` with each event; `settle` seconds of quiet end an incident.

    `changes` counts the notices that something was changed by others, whether that means anything or not.
    """

    def __init__(self, report: Callable[[Event], None], settle: float):
        self._report, self._settle = report, settle
        self.stock: Stock | None = None
        self.known: dict[Path, Known] = {}
        self.incidents: dict[Path, Incident] = {}
        self.wants_stock = False
        self.overflows = self.changes = 0
        self._processes = SeenProcesses()

    def emit(
        self, kind: Kind, level: Level, message: str, base: Path | None = None, processes: Iterable[Process] = (), **facts: Any
    ) -> None:
        """Reports an event with the present time."""
        self._report(Event(kind, level, message, datetime.now(UTC), base, tuple(processes), facts))

    def adopt(self, stock: Stock, now: float) -> None:
        """Takes over a new stock: watches new bases from now on, and examines those that have gone."""
        first = self.stock is None
        gone = set() if self.stock is None else set(self.stock.bases) - set(stock.bases)
        self.stock, self.wants_stock = stock, False
        for path, base in stock.bases.items():
            if path not in self.known:
                self.known[path] = Known(base.record)
                if not first:
                    self.emit(Kind.SEALED, Level.NOTICE, _seal_in_words(base), path, dependents=_names(base.dependents))
        for path in (gone & set(self.known)) - set(self.incidents):
            self._open_incident(path, now)

    def examine_soon(self, paths: Iterable[Path], now: float) -> None:
        """Marks bases for examination, as if something had been done to them."""
        for path in paths:
            self._open_incident(path, now)

    def sweep(self, now: float) -> None:
        """Looks for changes of bases that no notice reports: another host makes such changes on shared storage."""
        for path, known in self.known.items():
            if path not in self.incidents and known.identity is not None and _identity(path) != known.identity:
                self._open_incident(path, now).withheld = True

    def hear(self, notice: Notice, now: float) -> None:
        """Handles a notice."""
        assert self.stock is not None
        self.changes += notice.what is not What.OPENED and notice.pid != os.getpid()
        if notice.what is What.OVERFLOW or notice.path is None:
            self.overflows += 1
            self.wants_stock = True
            self.emit(
                Kind.OVERFLOW, Level.WARNING, "notices were lost, more than the kernel keeps; everything is looked at again"
            )
            self.examine_soon(self.stock.bases, now)
        elif notice.pid == os.getpid():
            return
        elif notice.what is What.OPENED:
            self._processes.meet(notice.pid or 0)
        elif notice.what in (What.APPEARED, What.VANISHED):
            self._hear_of_name(notice, notice.path, now)
        else:
            self._hear_of_file(notice, notice.path, now)

    def _hear_of_file(self, notice: Notice, path: Path, now: float) -> None:
        assert self.stock is not None
        for base in self.stock.of_file(path):
            incident = self._open_incident(base.path, now)
            is_content = path != base.seal and notice.what in (What.WRITTEN, What.CLOSED)
            if is_content and (notice.what is What.WRITTEN or _has_moved(base, path)):
                self.known[base.path].writes += notice.what is What.WRITTEN
                what = (
                    "it was written to" if path in base.names else f"{printable(path.name)}, which it stands on, was written to"
                )
                self._alarm(base, incident, notice, Kind.WRITTEN, what)
            elif notice.pid:
                incident.is_new(self._processes.identify(notice.pid))

    def _hear_of_name(self, notice: Notice, path: Path, now: float) -> None:
        assert self.stock is not None
        touched = self.stock.of_file(path)
        for base in touched:
            incident = self._open_incident(base.path, now)
            if path == base.seal:
                self._remember(incident, notice)
            elif notice.what is What.APPEARED and _is_replaced(base, path):
                self._alarm(base, incident, notice, Kind.REPLACED, "another file has taken its name")
            elif notice.what is What.VANISHED and not os.path.lexists(path):
                self._alarm(base, incident, notice, Kind.REMOVED, "it was removed, or moved away")
        journal = path.with_name(path.name.removesuffix(JOURNAL_SUFFIX))
        if path.name.endswith(JOURNAL_SUFFIX) and journal in self.known:
            self._remember(self._open_incident(journal, now), notice)
        if notice.is_directory or (path.name.endswith(SEAL_SUFFIX) and not touched):
            self.wants_stock = True

    def _remember(self, incident: Incident, notice: Notice) -> None:
        if notice.pid:
            incident.is_new(self._processes.identify(notice.pid))

    def _open_incident(self, path: Path, now: float) -> Incident:
        incident = self.incidents.setdefault(path, Incident(now, now))
        incident.noted(now)
        return incident

    def _alarm(self, base: Base, incident: Incident, notice: Notice, kind: Kind, message: str) -> None:
        """Reports a change as it happens: once for each process that takes part."""
        if notice.pid is None:
            if incident.alarmed or incident.withheld:
                return
            processes = [process for process in _suspects(notice.path) if incident.is_new(process)]
        else:
            if notice.pid in incident.processes and (incident.alarmed or incident.withheld):
                return
            process = self._processes.identify(notice.pid)
            incident.processes.pop(notice.pid, None)
            processes = [process] if incident.is_new(process) else []
            if not processes:
                return
        if _is_legitimate(base, processes):
            if not incident.withheld:
                self.emit(Kind.CHANGING, Level.INFO, f"{message}, as cowherd does", base.path, processes)
            incident.withheld = True
        elif not processes:
            incident.withheld = True  # no process to name: the examination shows what happened
        else:
            incident.alarmed = True
            harmless = kind is Kind.REMOVED and not base.dependents
            level = Level.NOTICE if harmless else Level.WARNING
            message = f"{message}; {len(base.dependents)} overlay(s) depend on it"
            self.emit(kind, level, message, base.path, processes, dependents=_names(base.dependents))

    def due(self, now: float) -> list[Path]:
        """Returns the bases to examine now, and notes that their examinations begin."""
        found = [path for path, incident in self.incidents.items() if incident.due(self._settle) <= now]
        for path in found:
            self.incidents[path].examine(now)
        return found

    def next_due(self) -> float:
        """Returns the time at which the next base is to be examined."""
        return min((incident.due(self._settle) for incident in self.incidents.values()), default=float("inf"))

    def found_suspicious(self, path: Path) -> None:
        """Reports a change that was withheld: the files of a base are not as its seal left them, and its content is read now."""
        incident = self.incidents.get(path)
        if incident and incident.withheld and not incident.alarmed:
            incident.alarmed = True
            dependents = self.stock.bases[path].dependents if self.stock and path in self.stock.bases else ()
            message = "it was written to, or replaced; its content is read now"
            self.emit(Kind.WRITTEN, Level.WARNING, message, path, incident.processes.values(), dependents=_names(dependents))

    def conclude(self, finding: Finding, now: float) -> None:
        """Handles the finding of an examination."""
        path, incident = finding.path, self.incidents.get(finding.path)
        known = self.known.setdefault(path, Known(finding.record))
        if finding.was_read and not finding.still_changing:
            known.read_at = now
            known.verified = time.time() if finding.outcome is Outcome.FINE else known.verified
        proves_nothing = finding.outcome is Outcome.FINE and finding.still_changing
        for event in () if proves_nothing else judged(known.last, known.record, finding, incident):
            self.emit(event.kind, event.level, event.message, path, event.processes, **event.facts)
        if finding.outcome is not Outcome.PENDING and not proves_nothing:
            known.last, known.record = finding, finding.record or known.record
            known.identity = _identity(path)
        busy = finding.still_changing or finding.outcome in (Outcome.PENDING, Outcome.UNREADABLE)
        if incident and incident.examined is not None and incident.concluded(now, still_changing=busy):
            del self.incidents[path]
        if finding.outcome in (Outcome.UNSEALED, Outcome.GONE) and path not in self.incidents:
            self.known.pop(path, None)


def _seal_in_words(base: Base) -> str:
    if base.record is None:
        return "a damaged seal lies beside it"
    return f"watched from now on, sealed as {base.record.level.label}, with {len(base.dependents)} dependent(s)"


def _names(paths: Iterable[Path]) -> list[str]:
    return [os.fspath(path) for path in paths]


def _has_moved(base: Base, path: Path) -> bool:
    """Returns whether a file that was closed differs from what the seal left; for a file below the base, always True."""
    if base.record is None or path not in base.names:
        return True
    now = _identity(path)
    return now is None or now.mtime_ns != base.record.identity.mtime_ns


def _identity(path: Path) -> FileIdentity | None:
    try:
        return FileIdentity.of(path)
    except HostFileError:
        return None


def _is_replaced(base: Base, path: Path) -> bool:
    try:
        info = os.stat(path)
    except OSError:
        return True
    return (info.st_dev, info.st_ino) != base.key


def _suspects(path: Path | None) -> list[Process]:
    """Returns the processes that have a file open for writing, for use where the kernel does not name the writer."""
    if path is None:
        return []
    try:
        return [suspect(holder) for found in writers([path]).values() for holder in found]
    except CowherdError:
        return []  # /proc can't be read, so there is no hint


def _is_legitimate(base: Base, processes: list[Process]) -> bool:
    """Returns whether a change looks like cowherd's own: a merge is at work, or the process is cowherd.

    Such a change is examined like every other; only the alarm waits for the result.
    """
    if any(_merge_runs(path) for path in base.files):
        return True
    return bool(processes) and all(_is_cowherd(process) for process in processes)


def _merge_runs(path: Path) -> bool:
    try:
        seen = look_at(journal_path(path))
    except CowherdError:
        return False
    return seen is not None and seen.running


def _is_cowherd(process: Process) -> bool:
    words = [os.path.basename(word) for word in process.command_line.split()[:4]]
    return process.command == _OWN_PROGRAM or _OWN_PROGRAM in words[:2] or any(word.startswith(_OWN_MODULE) for word in words)
