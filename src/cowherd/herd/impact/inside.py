"""Judges what a changed base does inside of one overlay: a verdict for each file system, and the files concerned.

An overlay shows its own blocks and the base's. Of a file system it shows

- the overlay's old state, if no block that the file system uses is exposed (harmless);
- the base's state, if every block that the file system uses comes from the base or equals it (synchronised);
- the structures of one state with some file content of the other, if either of these holds for the structures alone (altered);
- otherwise the structures of both states side by side: torn, unless every cross-reference between them is checked and agrees.

The first three need no copy of the old content: a reader that meets no changed byte on its way finds what it found before.

A disk may be readable in more than one way (`guest.survey`). Each reading is judged, and the worst verdict counts. Only a rival
that made no sense before the change and makes none now does not count: an earlier formatting left it behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cowherd import extents
from cowherd.guest.chart import Chart, FileSystem, Marks, union_of
from cowherd.guest.sandbox import chart_of
from cowherd.herd.impact.filediff import Difference, State, difference, suspicion
from cowherd.herd.impact.former_content import FormerContent, differing_bytes, differs
from cowherd.herd.impact.placing import Placed, placed_files
from cowherd.image.disk import Disk
from cowherd.progress import Progress

if TYPE_CHECKING:
    from typing import Any

    from cowherd.extents import Ranges

INTACT, HARMLESS, SYNCHRONISED, ALTERED, TORN = "intact", "harmless", "synchronised", "altered", "torn"
WORSE = (INTACT, HARMLESS, SYNCHRONISED, ALTERED, TORN)
"""The verdicts, from best to worst."""

COMPARING = "comparing the files of"
"""The step whose progress counts files; that of others counts bytes."""

Watch = Callable[[str], Progress | None]
"""Called with the name of a step that begins; returns a progress callback, or None if nobody watches."""


@dataclass
class Inside:
    """What was found inside of an overlay. `files` maps the place of a file system to a `Difference`.

    `metadata` counts exposed bytes by place and structure; `unknown` has (place, path or None, reason); `contradictions` has
    (place, problem) for structures that contradict each other. `placed` are files that are hit, with the places of their bytes.
    """

    verdict: str = INTACT
    files: dict[str, Difference] = field(default_factory=dict)
    metadata: dict[tuple[str, str], int] = field(default_factory=dict)
    unknown: list[tuple[str, str | None, str]] = field(default_factory=list)
    contradictions: list[tuple[str, str]] = field(default_factory=list)
    placed: list[Placed] = field(default_factory=list)

    def worsen(self, verdict: str) -> None:
        """Raises the verdict to `verdict` if that is worse."""
        self.verdict = max(self.verdict, verdict, key=WORSE.index)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "files": {name: [*self._named(name)] for name in ("changed", "lost", "new")},
            "metadata": [
                {"place": place, "structure": structure, "bytes": size} for (place, structure), size in self.metadata.items()
            ],
            "unknown": [{"place": place, "path": path, "reason": reason} for place, path, reason in self.unknown],
            "contradictions": [{"place": place, "problem": problem} for place, problem in self.contradictions],
        }

    def _named(self, what: str) -> Iterator[dict[str, str]]:
        for place, found in self.files.items():
            yield from ({"place": place, "path": path} for path in getattr(found, what))


def look_inside(disk: Disk, depth: int, exposed: Ranges, past: FormerContent | None, no_past: str, watch: Watch) -> Inside:
    """Judges an open overlay, whose top `depth` layers lie above the changed base.

    `exposed` are the bytes of the base that it shows, in changed blocks. `past` reads the old content; if it is None, `no_past`
    says why. `watch` is called for each step that may take long.
    """
    return _Look(disk, depth, exposed, past, no_past, watch).judged()


class _Look:
    """The look into one overlay."""

    def __init__(self, disk: Disk, depth: int, exposed: Ranges, past: FormerContent | None, no_past: str, watch: Watch):
        self._disk, self._depth, self._past, self._no_past, self._watch = disk, depth, past, no_past, watch
        self._base = Disk(disk.layers[depth:], writable=False)
        self._exposed = differing_bytes(past.readinto, disk.readinto, exposed) if past else exposed
        self._found = Inside(HARMLESS if len(exposed) else INTACT)
        self._rearranged = False

    def judged(self) -> Inside:
        if not len(self._exposed):
            return self._found
        self._found.unknown += [(place, None, text) for place, text in self._now.notes]
        for system in self._now.systems:
            if not (system.rival and self._is_left_behind(system)):
                self._judge_system(system)
        self._judge_tables()
        self._judge_readings()
        for part in self._now.uncharted:
            if len(extents.intersect(part.span, self._exposed)) and not part.idle:
                self._found.unknown.append((part.place, None, part.reason))
                self._found.worsen(TORN if self._own_differs(part.span) else SYNCHRONISED)
        self._list_vanished()
        return self._found

    @cached_property
    def _now(self) -> Chart:
        return chart_of(self._disk.readinto, self._disk.size, doubted=self._exposed, report=self._watch("looking into"))

    @cached_property
    def _before(self) -> Chart | None:
        if not self._past:
            return None
        watched = self._watch("looking at the old content of")
        return chart_of(self._past.readinto, self._disk.size, doubted=self._exposed, report=watched)

    @cached_property
    def _own(self) -> Ranges:
        """The bytes that the layers above the base provide."""
        parts = [np.empty((0, 2), np.int64)]
        for batch in self._disk.extents(depth=self._depth):
            parts.append(extents.ranges_of(batch[batch["kind"] != extents.BACKING]))
        return extents.normalised(np.concatenate(parts))

    def _own_differs(self, ranges: Ranges) -> bool:
        """Returns whether the overlay holds bytes of its own in `ranges` that differ from the base's."""
        return differs(self._disk.readinto, self._base_readinto, extents.intersect(ranges, self._own))

    def _base_readinto(self, offset: int, buffer: memoryview) -> None:
        inside = max(0, min(len(buffer), self._base.size - offset))
        if inside:
            self._base.readinto(offset, buffer[:inside])
        buffer[inside:] = bytes(len(buffer) - inside)

    def _judge_system(self, system: FileSystem) -> None:
        exposed = extents.intersect(self._exposed, system.span)
        if not len(exposed):
            return
        metadata = system.metadata
        structure_hit = bool(len(extents.intersect(exposed, metadata)))
        found = self._files(system, exposed, structure_hit)
        if found:
            self._found.files[system.place] = found
            before = self._counterpart(system) if found.lost and self._past else None
            self._place([system, *([before] if before else [])], found)
        self._found.metadata |= {(system.place, name): size for name, size in system.owners(exposed).items()}
        self._found.unknown += [(system.place, path, reason) for path, reason in found.unknown.items()]
        self._found.unknown += [(system.place, None, note) for note in system.notes]
        self._found.worsen(self._verdict(system, metadata, exposed, found, structure_hit))

    def _place(self, states: list[FileSystem], found: Difference) -> None:
        paths = (*found.changed, *found.lost, *found.new, *found.unknown)
        self._found.placed += placed_files(states, paths, self._exposed)

    def _is_left_behind(self, system: FileSystem) -> bool:
        """Returns whether a rival's structures contradict each other in both states. In one state alone it may be torn."""
        if not system.contradictions or not self._past:
            return False
        before = self._counterpart(system)
        return before is None or bool(before.contradictions)

    def _verdict(self, system: FileSystem, metadata: Ranges, exposed: Ranges, found: Difference, structure_hit: bool) -> str:
        content = system.content
        if not structure_hit and not (found if self._past else len(extents.intersect(exposed, content))):
            return HARMLESS
        structure_own = self._own_differs(metadata)
        if not structure_own and not self._own_differs(content):
            return SYNCHRONISED
        if not structure_hit or not structure_own:
            return ALTERED
        self._found.contradictions += [(system.place, problem) for problem in system.contradictions]
        if not system.contradictions and not system.checked:
            self._found.contradictions.append((system.place, "structures of two states stand side by side"))
        return ALTERED if system.checked and not system.contradictions else TORN

    def _files(self, system: FileSystem, exposed: Ranges, structure_hit: bool) -> Difference:
        if not self._past:
            if structure_hit:
                self._found.unknown.append((system.place, None, f"which files appeared or vanished: {self._no_past}"))
            reason = f"some of its bytes lie in a changed block: {self._no_past}"
            return suspicion(system, exposed, reason, same_structure=not structure_hit)
        now = State(system, self._disk.readinto)
        if not structure_hit and not (system.summed and len(extents.intersect(exposed, system.content))):
            return self._difference(State(system, self._past.readinto), now, exposed)
        before = self._counterpart(system)
        if before is None:
            self._found.unknown.append((system.place, None, "what was here before is not a file system that can be read"))
            before = _emptied(system)
        return self._difference(State(before, self._past.readinto), now, exposed)

    def _difference(self, old: State, new: State, exposed: Ranges) -> Difference:
        return difference(old, new, exposed, self._disk.size, self._watch(COMPARING))

    def _counterpart(self, system: FileSystem) -> FileSystem | None:
        """Returns the file system that was in the place of `system` before, or None; a rival reading counts too."""
        assert self._before
        named = [old for old in self._before.systems if old.place == system.place]
        same = [old for old in self._before.systems if old.kind == system.kind and np.array_equal(old.span, system.span)]
        return next(iter(named + same), None)

    def _judge_tables(self) -> None:
        """Judges the partition tables: they give the places of file systems, so a change in them is a change of structure."""
        tables = self._now.tables
        hit = extents.total(extents.intersect(tables, self._exposed))
        if hit:
            self._found.metadata["the whole disk", "partition table"] = hit
            self._found.worsen(TORN if self._own_differs(tables) else SYNCHRONISED)

    def _judge_readings(self) -> None:
        """Judges the bytes that decide how a volume is read: if they changed, it may have been read in another way before."""
        for place in self._now.marks:
            if self._is_read_in_another_way(place):
                self._rearranged = True
                said = place.place, None, "what tells how it is read is not what it was"
                if said not in self._found.unknown:  # several ways to read one volume change together
                    self._found.unknown.append(said)
                self._found.worsen(TORN if self._own_differs(place.span) else SYNCHRONISED)

    def _is_read_in_another_way(self, place: Marks) -> bool:
        changed = extents.intersect(place.marks, self._exposed)
        if self._past is None:  # changes in charted structures are judged elsewhere; only other marks count here
            known = [system.metadata for system in self._now.systems] + [self._now.tables]
            return bool(len(extents.subtract(changed, union_of(known))))
        if not differs(self._past.readinto, self._disk.readinto, changed):
            return False
        assert self._before
        return self._before.outline(place.span) != self._now.outline(place.span)

    def _list_vanished(self) -> None:
        """Lists as lost the files of file systems that no longer exist."""
        if self._past is None or not (self._rearranged or self._lost_its_place()):
            return
        assert self._before
        there = {id(self._counterpart(system)) for system in self._now.systems}
        for system in self._before.systems:
            if id(system) not in there:
                gone = State(_emptied(system), self._disk.readinto)
                lost = self._difference(State(system, self._past.readinto), gone, self._exposed)
                self._found.files[system.place] = lost
                self._place([system], lost)

    def _lost_its_place(self) -> bool:
        """Returns whether there may have been a file system where none can be read now."""
        uncharted = [part.span for part in self._now.uncharted if not part.idle] + [self._now.tables]
        return any(len(extents.intersect(span, self._exposed)) for span in uncharted)


def _emptied(system: FileSystem) -> FileSystem:
    return FileSystem(system.place, system.kind, system.span, {}, system.span)
