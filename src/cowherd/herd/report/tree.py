"""The herd as a tree: bases, the overlays under them, and the status of each."""

from __future__ import annotations

import functools
import os

from cowherd.errors import CowherdError
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.survey import survey
from cowherd.herd.machines.running import NOTHING_RUNS, running_on
from cowherd.herd.seals.verify import Checker
from cowherd.paths import as_path
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.machines.running import Machine, Runs
    from cowherd.herd.records.status import Status
    from cowherd.live.gone import GoneDisk
    from cowherd.paths import PathName


class Node(NamedTuple):
    """One image in the tree.

    `depth` counts the bases above it in the tree, 0 for a root. `base_name` is the backing file, even a missing one.
    `level` is the level of its seal, None without one. `dependents` counts the overlays whose chain passes through it.
    `detail` explains a status. `machines` are those that are seen to run on it; `running_overlays` counts the dependents that
    machines are seen to run on.
    """

    image: Image
    depth: int
    base_name: str | None
    level: str | None
    status: Status
    detail: str
    dependents: int
    machines: tuple[Machine, ...] = ()
    running_overlays: int = 0

    @property
    def path(self) -> Path:
        """The image's first name, by which messages call it."""
        return self.image.path

    @property
    def names(self) -> tuple[Path, ...]:
        """All names under which it was found."""
        return self.image.names

    @property
    def base(self) -> Path | None:
        """`base_name` as a path."""
        return as_path(self.base_name) if self.base_name else None

    @property
    def format(self) -> str:
        """The image's format."""
        return self.image.format

    @property
    def virtual_size(self) -> int | None:
        """The size of the disk in bytes, None if unknown."""
        return self.image.size

    @property
    def disk_size(self) -> int:
        """Bytes that the file occupies."""
        return self.image.disk_size

    @property
    def bound(self) -> bool:
        """Whether it records a binding to its base."""
        return self.image.binding is not None

    @property
    def problem(self) -> str | None:
        """Why its header can't be trusted, None if it can."""
        return self.image.problem


_make_node: Callable[[tuple[Any, ...]], Node] = functools.partial(tuple.__new__, Node)  # takes a third of the time of `Node(...)`


class Tree(NamedTuple):
    """A herd: the names of its directories, which are absolute, and its images with each base before its overlays.

    `gone` are images of which only the seal is left; `unreadable` are files that could not be read, which may be overlays too;
    `running_on_gone` are deleted files on which machines still run; `hidden_machines` is the number of machines that this user
    may not look into, so that they may run on any image.
    """

    directory_names: tuple[str, ...]
    nodes: tuple[Node, ...]
    gone: tuple[Path, ...]
    unreadable: tuple[Path, ...]
    running_on_gone: tuple[GoneDisk, ...] = ()
    hidden_machines: int = 0

    @property
    def directories(self) -> tuple[Path, ...]:
        """`directory_names` as paths."""
        return tuple(map(as_path, self.directory_names))


def tree(directories: Sequence[PathName] = ()) -> Tree:
    """Returns the herd in `directories` (the current one by default). Reads only headers and the records of seals."""
    lineage = survey(directories or ["."])
    runs = running_on(lineage)
    here = tuple(disk for disk in runs.glance.gone if lineage.was_listed(os.path.dirname(disk.path)))
    return tree_of(lineage, runs)._replace(running_on_gone=here)


def tree_of(lineage: Lineage, runs: Runs = NOTHING_RUNS, checker: Checker | None = None) -> Tree:
    """Returns the herd of a lineage that the caller has already, with what runs on it.

    The statuses are those that `checker` finds, by default from files alone.
    """
    checker = checker or Checker(full=False)
    nodes = tuple(_node(lineage, checker, runs, *step) for step in lineage.walk())
    return Tree(tuple(lineage.directories), nodes, lineage.orphans, lineage.unreadable, hidden_machines=runs.hidden)


def _node(lineage: Lineage, checker: Checker, runs: Runs, depth: int, image: Image, base: Image | None) -> Node:
    found = checker.condition(lineage, image, base)
    base_name = base.filename if base else _missing_base(lineage, image)
    level = _level(lineage, image) if lineage.seal(image) else None
    running = runs.machines.get(image.key, ()), runs.overlays.get(image.key, 0)
    return _make_node((image, depth, base_name, level, found.status, found.detail, lineage.count_dependents(image), *running))


def _missing_base(lineage: Lineage, image: Image) -> str | None:
    broken = lineage.broken(image)
    return os.fspath(broken.path) if broken and broken.path else None


def _level(lineage: Lineage, image: Image) -> str | None:
    try:
        record = lineage.record_of(image)
    except CowherdError:
        return "damaged"
    return record.level.label if record else None
