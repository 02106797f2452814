"""The herd as a tree: bases, the overlays under them, and how each is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cowherd.errors import CowherdError
from cowherd.herd.condition import record_of
from cowherd.herd.lineage import Lineage, survey
from cowherd.herd.scan import Image
from cowherd.herd.status import Status
from cowherd.herd.verify import Checker


@dataclass(frozen=True)
class Node:
    """One image in the tree.

    `depth` counts the bases above it in the tree, 0 for a root. `base` is the backing file, also where it is missing.
    Sizes are bytes; `virtual_size` is None where it is unknown. `level` is the level of its seal, None without one.
    `dependents` counts the overlays whose chain passes through it. `detail` explains a status, `problem` an unusable header.
    """

    path: Path
    names: tuple[Path, ...]
    depth: int
    base: Path | None
    format: str
    virtual_size: int | None
    disk_size: int
    level: str | None
    status: Status
    detail: str
    dependents: int
    bound: bool
    problem: str | None


@dataclass(frozen=True)
class Tree:
    """A herd: its directories, its images (each base before its overlays), images of which only the seal is left, and files
    that could not be looked at, which may be overlays too."""

    directories: tuple[Path, ...]
    nodes: tuple[Node, ...]
    gone: tuple[Path, ...]
    unreadable: tuple[Path, ...]


def tree(directories: Sequence[str | os.PathLike[str]] = ()) -> Tree:
    """Returns the herd in `directories` (the current one by default). Reads headers and the records of seals only."""
    lineage = survey(directories or ["."])
    checker = Checker(full=False)
    nodes = tuple(_node(lineage, checker, depth, image) for depth, image in lineage.walk())
    return Tree(tuple(map(Path, lineage.directories)), nodes, lineage.orphans, lineage.unreadable)


def _node(lineage: Lineage, checker: Checker, depth: int, image: Image) -> Node:
    checked = checker.check(lineage, image)
    return Node(
        path=image.path,
        names=image.names,
        depth=depth,
        base=checked.base,
        format=image.format,
        virtual_size=image.size,
        disk_size=image.disk_size,
        level=_level(image),
        status=checked.status,
        detail=checked.detail,
        dependents=len(lineage.dependents(image)),
        bound=image.binding is not None,
        problem=image.problem,
    )


def _level(image: Image) -> str | None:
    try:
        record = record_of(image)
    except CowherdError:
        return "damaged"
    return record.level.label if record else None
