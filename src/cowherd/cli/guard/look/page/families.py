"""The images of a herd by family: an image that stands on no other, with all that stand on it. Worst first, at every level."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from cowherd.cli.guard.look.page.states import rank_of, severity_of, state_of, worst_of
from cowherd.pages.markup import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cowherd.herd.doctor.finding import Finding
    from cowherd.herd.report.overview import DriftPicture, Overview
    from cowherd.herd.report.tree import Node

DEEPEST_DRAWN = 24
"""The depth from which on an image has no lines of a tree before its name: they would be wider than any window."""


class Member(NamedTuple):
    """An image of a family, `depth` images below its root.

    `open_lines` says for each image on the way down to it, itself included, whether another one with the same base follows
    below; none for an image that is deeper than is drawn.
    """

    node: Node
    state: str
    depth: int
    has_overlays: bool
    open_lines: tuple[bool, ...]


class Family(NamedTuple):
    """A family: its members, each base before its overlays, with the changes of its bases and the findings about all of these.

    `title` is the name of its root, or of the missing base of its members; None for images that stand alone and are fine.
    """

    title: str | None
    members: tuple[Member, ...]
    drifts: tuple[DriftPicture, ...]
    findings: tuple[Finding, ...]

    @property
    def states(self) -> Counter[str]:
        """The number of members in each state, the worst state first."""
        return counted(self.members)

    @property
    def rank(self) -> tuple[int, int, int]:
        """Sort key, the worst first: by severity, then by how many images are in the worst state."""
        state, count = next(iter(self.states.items()))
        return list(Severity).index(self.severity), rank_of(state), -count

    @property
    def severity(self) -> Severity:
        """How bad it is: BAD with an image or a finding that is wrong, WARN with something to note."""
        worst = severity_of(next(iter(self.states)))
        if worst is Severity.BAD or any(not finding.kind.is_note for finding in self.findings):
            return Severity.BAD
        return Severity.WARN if worst is Severity.WARN or self.findings else Severity.GOOD

    @property
    def disk_size(self) -> int:
        """Bytes that the files of all members occupy."""
        return sum(member.node.disk_size for member in self.members)


def counted(members: Iterable[Member]) -> Counter[str]:
    """Returns the number of images in each state, the worst state first."""
    counts = Counter(member.state for member in members)
    return Counter({state: counts[state] for state in sorted(counts, key=rank_of)})


def families_of(seen: Overview) -> tuple[list[Family], list[Finding]]:
    """Returns the families of a herd, the worst first, and the findings that are about none of their images."""
    drifts = {os.fspath(drift.path): drift for drift in seen.drifts}
    findings: dict[str, list[Finding]] = {}
    for finding in seen.diagnosis.findings:
        findings.setdefault(finding.filename, []).append(finding)
    found = []
    for title, members in _by_title(_members_of_roots(seen), findings).items():
        names = [member.node.image.filename for member in members]
        about = [*([title] if title and title not in names else []), *names]
        mine = [finding for name in about for finding in findings.pop(name, ())]
        here = [drifts[name] for name in names if name in drifts]
        found.append(Family(title, tuple(members), tuple(here), tuple(sorted(mine, key=lambda one: one.rank))))
    return sorted(found, key=lambda family: family.rank), [one for rest in findings.values() for one in rest]


def _by_title(roots: Iterable[list[Member]], findings: Mapping[str, object]) -> dict[str | None, list[Member]]:
    """Returns the members of each family. Overlays of one missing base are one, and so are images that stand alone."""
    found: dict[str | None, list[Member]] = {}
    for members in roots:
        root = members[0]
        name = root.node.image.filename
        alone = len(members) == 1 and severity_of(root.state) in (Severity.QUIET, Severity.GOOD) and name not in findings
        title = root.node.base_name or (None if alone else name)
        found.setdefault(title, []).extend(members)
    return found


def _members_of_roots(seen: Overview) -> Iterator[list[Member]]:
    verdicts: dict[str, list[str]] = {}
    for drift in seen.drifts:
        for hit in drift.hits:
            verdicts.setdefault(os.fspath(hit.path), []).append(hit.verdict)
    nodes = seen.tree.nodes
    states = [state_of(node.status, verdicts.get(node.image.filename, ()), sealed=node.level is not None) for node in nodes]
    starts = [number for number, node in enumerate(nodes) if node.depth == 0]
    for start, end in itertools.pairwise([*starts, len(nodes)]):
        yield list(_members(nodes[start:end], states[start:end]))


def _members(nodes: Sequence[Node], states: Sequence[str]) -> Iterator[Member]:
    """Yields the images of one root as a walk meets them that goes to the worst first. A chain may be thousands deep."""
    overlays = _overlays_by_base(nodes)
    worst = list(states)
    for number in reversed(range(len(nodes))):
        worst[number] = worst_of([worst[number], *(worst[overlay] for overlay in overlays[number])])
    pending: list[tuple[int, tuple[bool, ...]]] = [(0, ())]
    while pending:
        number, lines = pending.pop()
        node, below = nodes[number], sorted(overlays[number], key=lambda one: (rank_of(worst[one]), one))
        yield Member(node, states[number], node.depth, bool(below), lines)
        deeper = node.depth < DEEPEST_DRAWN and (node.depth == 0 or bool(lines))
        pending += [(one, (*lines, one != below[-1]) if deeper else ()) for one in reversed(below)]


def _overlays_by_base(nodes: Sequence[Node]) -> list[list[int]]:
    overlays: list[list[int]] = [[] for _ in nodes]
    chain: list[int] = []
    for number, node in enumerate(nodes):
        del chain[node.depth :]
        if chain:
            overlays[chain[-1]].append(number)
        chain.append(number)
    return overlays
