"""The verdicts of `cowherd impact` as text: equal ones once, the worst first."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from cowherd.cli.guard.groups import alike, named
from cowherd.cli.guard.look.listing import listing
from cowherd.cli.guard.output import table
from cowherd.cli.guard.screen import state
from cowherd.sizes import human_size
from cowherd.text import counted, printable, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.herd.impact.verdict import Hit, SnapshotHit

_LISTED_GROUPS = 20


class Group(NamedTuple):
    """Overlays of which the same is to be said; never none."""

    hits: Sequence[Hit]

    @property
    def first(self) -> Hit:
        """One of them: it stands for all."""
        return self.hits[0]

    @property
    def names(self) -> str:
        """Their names, as one text."""
        return named([shown(hit.path) for hit in self.hits])

    @property
    def problems(self) -> tuple[str, ...]:
        """Why they, or snapshots of theirs, can't be read."""
        return tuple(one.problem for one in _judged(self.first) if one.problem)


def gathered(hits: Sequence[Hit], *, each: bool) -> list[Group]:
    """Returns the overlays in groups, the worst first; each alone if `each`."""
    from cowherd.herd.impact.verdict import WORST_LAST

    groups = [Group((hit,)) for hit in hits] if each else [Group(group) for group in alike(hits, _said_of)]
    return sorted(groups, key=lambda group: -WORST_LAST.index(group.first.overall))


def _said_of(hit: Hit) -> tuple[object, ...]:
    """Returns what is said of an overlay beside its name: it is the same for all of a group."""
    rows = tuple((one.verdict, _facts(one), one.problem) for one in _judged(hit))
    return rows, tuple(one.label for one in hit.snapshots), tuple(listing(hit, None))


def verdicts(groups: Sequence[Group], *, each: bool) -> Iterator[str]:
    """Yields how many overlays there are of each verdict, and then a line for each group and each of its internal snapshots;
    the worst groups only, unless `each`."""
    from cowherd.herd.impact.verdict import WORST_LAST

    found = Counter(group.first.overall for group in groups for _ in group.hits)
    if found.total() > 1:
        parts = (f"{found[verdict]} {state(verdict)}" for verdict in reversed(WORST_LAST) if found[verdict])
        yield f"{counted(found.total(), 'overlay')}: {', '.join(parts)}"
    told = groups if each else groups[:_LISTED_GROUPS]
    yield from table((state(one.verdict), name, _facts(one)) for group in told for name, one in _rows(group))
    left = sum(len(group.hits) for group in groups[len(told) :])
    if left:
        yield f"and {counted(left, 'more overlay')}, none of them worse; --all names them"


def insides(groups: Sequence[Group], *, each: bool) -> Iterator[str]:
    """Yields what is inside of the overlays of each group, as `listing` says it; of the worst groups only, unless `each`."""
    for group in groups if each else groups[:_LISTED_GROUPS]:
        lines = list(listing(group.first, None) if each else listing(group.first))
        if lines:
            yield from ("", f"{group.names}: {state(group.first.verdict)}", *lines)


def _rows(group: Group) -> Iterator[tuple[str, Hit | SnapshotHit]]:
    """Yields (name, verdict) of the overlays of a group, and after it of their internal snapshots."""
    yield group.names, group.first
    yield from ((f"{group.names} (snapshot {printable(one.label)})", one) for one in group.first.snapshots)


def _judged(hit: Hit) -> tuple[Hit | SnapshotHit, ...]:
    return hit, *hit.snapshots


def _facts(hit: Hit | SnapshotHit) -> str:
    """Returns how much of the change is seen, and behind an overlay that is not intact the machines that run on it."""
    from cowherd.extents import total
    from cowherd.herd.impact.verdict import INTACT, Hit
    from cowherd.herd.machines.running import in_words

    amounts = f"{human_size(total(hit.exposed))} exposed, {human_size(total(hit.shielded))} shielded"
    machines = in_words(hit.machines, 0, 0, hidden=0) if isinstance(hit, Hit) and hit.overall != INTACT else ""
    return f"{amounts}  {machines}" if machines else amounts
