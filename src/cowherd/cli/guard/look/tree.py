"""`cowherd tree`: shows the herd as a tree."""

from __future__ import annotations

import functools

from cowherd.cli.guard.output import Report, table
from cowherd.cli.guard.rows import Rows
from cowherd.cli.guard.screen import state
from cowherd.cli.streams import can_show
from cowherd.sizes import human_size
from cowherd.text import current_directory, printable, shown
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from cowherd.cli.guard.arguments import Parser
    from cowherd.herd.report.tree import Node, Tree
    from cowherd.live.gone import GoneDisk

_DEEPEST_DRAWN = 64  # of a chain of thousands, lines that show the depth would be thousands of columns wide


_size_text = functools.lru_cache(maxsize=4096)(human_size)  # overlays of one base have one size, and many have little on the disk


class _Drawing(NamedTuple):
    """The texts before an image with later siblings, before the last sibling, and below an image with later siblings."""

    branch: str
    last: str
    line: str


_DRAWN, _DRAWN_IN_ASCII = _Drawing("├─ ", "└─ ", "│  "), _Drawing("|- ", "`- ", "|  ")


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Shows the images under some directories: each base with the overlays under it, sizes, seals, drift and broken links.\n"
        "Only headers and the records of seals are read, so it is quick, and images may be in use.\n"
        "Machines that run on an image are named behind it. Of an image it shows the family: its chain, and all that stands on\n"
        "any image of that.",
        "cowherd tree /var/lib/libvirt/images\ncowherd tree web.qcow2",
    )
    parser.add_argument("places", nargs="*", metavar="DIR|IMAGE", help="where to look (default: the current directory)")
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.machines.running import hidden_in_words
    from cowherd.herd.report.tree import tree

    found = tree(arguments.places, herd=arguments.herd)
    notes = []
    if found.unreadable:
        more = f" and {len(found.unreadable) - 1} more" if len(found.unreadable) > 1 else ""
        notes.append(f"cowherd: could not look at {shown(found.unreadable[0])}{more}: there may be overlays among them")
    notes += [_running_on_gone(disk) for disk in found.running_on_gone]
    notes += [f"cowherd: {hidden_in_words(found.hidden_machines)}"] if found.hidden_machines and found.nodes else []
    gone = [f"{shown(path)}: its seal is there, but it is not" for path in found.gone]
    document = found.to_json(Rows) if arguments.json else {}
    lines = [] if arguments.json else [*table(_rows(found)), *gone]
    return Report(document, tuple(lines or ["no images"]), tuple(notes))


def _running_on_gone(disk: GoneDisk) -> str:
    from cowherd.live.holders import describe

    how = "another file has its name" if disk.replaced else "it was deleted"
    return f"cowherd: {shown(disk.path)}: {how} while {describe(disk.holder)} runs on it; 'cowherd doctor' says how to save it"


def _rows(found: Tree) -> Iterator[tuple[str, ...]]:
    from cowherd.herd.machines.running import in_words

    nodes = found.nodes
    if nodes:
        yield "image", "format", "size", "on disk", "seal", "status"
    here, drawn = current_directory(), _DRAWN if can_show("".join(_DRAWN)) else _DRAWN_IN_ASCII
    directories: dict[str, str] = {}  # how each is shown, with what stands between it and a name
    stems = {0: ""}  # what is drawn before the branch of an image, by its depth
    for node, follows in zip(nodes, _have_later_siblings(nodes), strict=True):
        image, stem = node.image, stems.get(min(node.depth, _DEEPEST_DRAWN), "")
        branch = (drawn.branch if follows else drawn.last) if node.depth else ""
        if node.depth < _DEEPEST_DRAWN:
            stems[node.depth + 1] = stem + ((drawn.line if follows else "   ") if node.depth else "")
        else:
            branch = f"({node.depth}) "
        size = "?" if image.size is None else _size_text(image.size)
        runs = in_words(node.machines, node.running_overlays, node.dependents, hidden=found.hidden_machines)
        directory, _, name = image.filename.rpartition("/")
        if directory not in directories:
            directories[directory] = shown(f"{directory}/-", here)[:-1]
        yield (
            stem + branch + directories[directory] + printable(name),
            image.format,
            size,
            _size_text(image.disk_size),
            node.level or "-",
            f"{_status(node)}  {runs}" if runs else _status(node),
        )


def _have_later_siblings(nodes: Sequence[Node]) -> list[bool]:
    """Returns for each node whether another one of its depth follows before one that is nearer to the root."""
    follows: list[bool] = []
    later: list[bool] = []  # of each depth, whether one follows
    for node in reversed(nodes):
        depth = node.depth
        follows.append(depth < len(later) and later[depth])
        del later[depth + 1 :]
        later += [False] * (depth + 1 - len(later))
        later[depth] = True
    return follows[::-1]


def _status(node: Node) -> str:
    reason = node.image.problem or (node.detail if node.detail and not node.status.is_fine else "")
    return f"{state(node.status)}: {reason}" if reason else state(node.status)
