"""`cowherd tree`: the herd as a tree."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cowherd.cli.guard.arguments import Parser
from cowherd.cli.guard.output import Report, table
from cowherd.sizes import human_size
from cowherd.text import shown

if TYPE_CHECKING:
    from cowherd.herd.tree import Node


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Shows the images under some directories: each base with the overlays under it, sizes, seals, drift and broken links.\n"
        "Only headers and the records of seals are read, so it is quick, and images may be in use.",
        "cowherd tree /var/lib/libvirt/images",
    )
    parser.add_argument("directories", nargs="*", metavar="DIR", help="where to look (default: the current directory)")


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.tree import tree

    found = tree(arguments.directories)
    notes = []
    if found.unreadable:
        more = f" and {len(found.unreadable) - 1} more" if len(found.unreadable) > 1 else ""
        notes.append(f"cowherd: could not look at {shown(found.unreadable[0])}{more}: there may be overlays among them")
    gone = [f"{shown(path)}: its seal is there, but it is not" for path in found.gone]
    document = {
        "directories": [os.fspath(directory) for directory in found.directories],
        "images": [_document(node) for node in found.nodes],
        "gone": [os.fspath(path) for path in found.gone],
        "unreadable": [os.fspath(path) for path in found.unreadable],
    }
    lines = [*table(_rows(found.nodes)), *gone]
    return Report(document, tuple(lines or ["no images"]), tuple(notes))


def _document(node: Node) -> dict[str, Any]:
    return {
        "path": os.fspath(node.path),
        "names": [os.fspath(name) for name in node.names],
        "base": os.fspath(node.base) if node.base else None,
        "depth": node.depth,
        "format": node.format,
        "virtual_size": node.virtual_size,
        "disk_size": node.disk_size,
        "seal": node.level,
        "status": node.status.value,
        "detail": node.detail,
        "bound": node.bound,
        "dependents": node.dependents,
        "problem": node.problem,
    }


def _rows(nodes: Sequence[Node]) -> Iterator[tuple[str, ...]]:
    if nodes:
        yield "image", "format", "size", "on disk", "seal", "status"
    open_depths: list[bool] = []
    for index, node in enumerate(nodes):
        follows = _has_later_sibling(nodes, index)
        del open_depths[max(node.depth - 1, 0) :]
        stem = "".join("│  " if later else "   " for later in open_depths)
        branch = ("├─ " if follows else "└─ ") if node.depth else ""
        if node.depth:
            open_depths.append(follows)
        size = "?" if node.virtual_size is None else human_size(node.virtual_size)
        yield (
            stem + branch + shown(node.path),
            node.format,
            size,
            human_size(node.disk_size),
            node.level or "-",
            _status(node),
        )


def _has_later_sibling(nodes: Sequence[Node], index: int) -> bool:
    for later in nodes[index + 1 :]:
        if later.depth <= nodes[index].depth:
            return later.depth == nodes[index].depth
    return False


def _status(node: Node) -> str:
    reason = node.problem or ("" if node.status.is_fine else node.detail)
    return f"{node.status.value}: {reason}" if reason else node.status.value
