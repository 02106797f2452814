"""How each base of a herd stands, worst first: one line for what `tree` shows with all its overlays."""

from __future__ import annotations

import os

from cowherd.herd.log.history import readings
from cowherd.herd.records.status import Status
from cowherd.herd.report.tree import tree
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from cowherd.herd.report.tree import Node, Tree
    from cowherd.paths import PathNames

_WITHOUT_BASE = (Status.MISSING_BASE, Status.UNKNOWN)
_ORDER = {status: number for number, status in enumerate(Status)}


class Base(NamedTuple):
    """An image that overlays stand on, or that is sealed.

    `status` is its own, and `detail` explains it; where it is fine, both are those of the worst overlay right on it, and
    `wrong_overlays` counts these overlays that are not fine. `overlays` counts all that depend on it, `running` those of
    them that machines are seen to run on. `level` is the level of its seal, None without one. `problem`: why its header can't
    be trusted. `verified` is when its content was last read as a whole and found right (ISO 8601, UTC), None if the log does
    not say. `is_there` is False for a base that is gone.
    """

    path: str
    status: Status
    detail: str
    level: str | None
    overlays: int
    running: int
    wrong_overlays: int = 0
    problem: str | None = None
    verified: str | None = None
    is_there: bool = True

    @property
    def is_fine(self) -> bool:
        """Whether nothing is wrong with it, nor with an overlay right on it."""
        return self.status.is_fine and not self.problem

    @property
    def rank(self) -> tuple[bool, int, str]:
        """Sort key, the worst first."""
        return self.is_fine, -_ORDER[self.status], self.path

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd status --json` prints them."""
        return {
            "path": self.path,
            "there": self.is_there,
            "status": self.status.value,
            "detail": self.detail,
            "seal": self.level,
            "overlays": self.overlays,
            "running_overlays": self.running,
            "problem": self.problem,
            "wrong_overlays": self.wrong_overlays,
            "verified": self.verified,
        }


class Standing(NamedTuple):
    """The bases of a herd, worst first, and the tree that says so."""

    bases: tuple[Base, ...]
    tree: Tree

    @property
    def wrong(self) -> int:
        """The number of bases that are not fine."""
        return sum(not base.is_fine for base in self.bases)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd status --json` prints them."""
        return {
            "directories": list(self.tree.directory_names),
            "bases": [base.to_json() for base in self.bases],
            "wrong": self.wrong,
            "unreadable": [os.fspath(path) for path in self.tree.unreadable],
            "hidden_machines": self.tree.hidden_machines,
        }


def standing(places: PathNames = (), *, herd: PathNames = ()) -> Standing:
    """Returns how the bases in some directories stand (the current one by default), or those in the families of images.

    Reads only headers and the records of seals. Raises `HostFileError` if a place is not there.
    """
    found = tree(places, herd=herd)
    bases = sorted((*_bases(found), *_lost(found)), key=lambda base: base.rank)
    return Standing(tuple(bases), found)


def _bases(found: Tree) -> Iterator[Base]:
    known = readings()
    overlays: dict[str, list[Node]] = {}
    for node in found.nodes:
        if node.base_name:
            overlays.setdefault(node.base_name, []).append(node)
    for node in found.nodes:
        if node.dependents or node.level:
            yield _base(node, overlays.get(node.image.filename, []))._replace(verified=known.last(node.image.filename))


def _base(node: Node, overlays: Sequence[Node]) -> Base:
    ends = [one for one in overlays if not one.dependents and not one.level]  # the others have lines of their own
    wrong = [one for one in ends if not one.status.is_fine] if node.status.is_fine else []
    worst = max(wrong, key=lambda one: _ORDER[one.status], default=node)
    said = (node.image.filename, worst.status, worst.detail, node.level, node.dependents, node.running_overlays)
    return Base(*said, wrong_overlays=len(wrong), problem=node.image.problem)


def _lost(found: Tree) -> Iterator[Base]:
    """Yields the bases that can't be followed, and those of which only the seal is left."""
    known = {node.image.filename for node in found.nodes}
    lost: dict[str, list[Node]] = {os.fspath(path): [] for path in found.gone}
    for node in found.nodes:
        if node.depth == 0 and node.status in _WITHOUT_BASE and node.base_name not in known:
            lost.setdefault(node.base_name or node.image.filename, []).append(node)  # a name that leads nowhere may be no path
    for path, overlays in lost.items():
        status, detail = (overlays[0].status, overlays[0].detail) if overlays else (Status.MISSING_BASE, "only its seal is there")
        count = sum(1 + node.dependents for node in overlays)
        yield Base(path, status, detail, None, count, _running(overlays), is_there=False)


def _running(overlays: Sequence[Node]) -> int:
    return sum(bool(node.machines) + node.running_overlays for node in overlays)
