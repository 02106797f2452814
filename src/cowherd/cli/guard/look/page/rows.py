"""The images of a family as a table, with the lines of its tree, and as a picture if they are many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.look.page.families import Family, Member, counted
from cowherd.cli.guard.look.page.markup import Places, badges
from cowherd.cli.guard.look.page.pictures import crowd
from cowherd.cli.guard.look.page.states import severity_of
from cowherd.formats import registry
from cowherd.herd.machines.running import in_words
from cowherd.pages.markup import branch, count_of, text
from cowherd.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MANY = 40
"""With more images than this, a family has a picture, and its table is closed at first."""

_COLUMNS = ("image", "state", "size", "on disk", "seal")
_STEPS = 20
_LEVELS = 6


def images_of(family: Family, largest: int, places: Places, hidden: int) -> Iterator[str]:
    """Yields the images of a family.

    `largest` is the number of bytes that the largest file of the page occupies, `hidden` that of machines that may run on any
    of these images.
    """
    if len(family.members) <= MANY:
        yield from _table(family, largest, places, hidden)
        return
    yield from _lineage(family, places)
    yield f"<details class=images><summary>{count_of(len(family.members), 'image')}</summary>"
    yield from _table(family, largest, places, hidden)
    yield "</details>"


def _lineage(family: Family, places: Places) -> Iterator[str]:
    """Yields a picture in which each level of overlays is a block of dots, one for each image."""
    levels: dict[int, list[Member]] = {}
    for member in family.members:
        levels.setdefault(min(member.depth, _LEVELS), []).append(member)
    yield "<div class=lineage>"
    for depth, members in levels.items():
        yield f"<div class=level><p>{_level(depth, members, places)} {badges(counted(members))}</p>"
        yield crowd([member.state for member in members], depth)
    yield "</div>" * len(levels) + "</div>"


def _level(depth: int, members: Sequence[Member], places: Places) -> str:
    if depth == 0 and len(members) == 1:
        return f"<span class=name>{places.shown(members[0].node.image.filename)}</span>"
    below = " and below" if depth == _LEVELS else ""
    return f"<span>{f'{len(members):,} at depth {depth}{below}' if depth else count_of(len(members), 'image')}</span>"


def _table(family: Family, largest: int, places: Places, hidden: int) -> Iterator[str]:
    runs = [in_words(one.node.machines, one.node.running_overlays, one.node.dependents, hidden=hidden) for one in family.members]
    told = any(runs)
    columns = [*_COLUMNS, *(["machines"] if told else [])]
    heads = "".join(f"<th scope=col>{name}</th>" for name in columns)
    yield f"<div class=scroll><table class=tree><thead><tr>{heads}</tr></thead><tbody>"
    for member, words in zip(family.members, runs, strict=True):
        yield f"{_row(member, largest, places)}{f'<td>{text(words)}</td>' if told else ''}</tr>"
    yield "</tbody></table></div>"


def _row(member: Member, largest: int, places: Places) -> str:
    node, image = member.node, member.node.image
    size = "?" if image.size is None else human_size(image.size)
    other = "" if image.format == registry.OVERLAY else f" <small>{text(image.format)}</small>"
    step = -(-_STEPS * image.disk_size // largest)
    return (
        f"<tr class={severity_of(member.state)}><td>{_branch(member)}{places.shown(image.filename)}{other}</td>"
        f"<td>{member.state}</td><td data-v={image.size or 0}>{size}</td>"
        f"<td data-v={image.disk_size}>{human_size(image.disk_size)}<i class=w{step}></i></td><td>{node.level or '-'}</td>"
    )


def _branch(member: Member) -> str:
    """Returns the part of the tree that lies in a row."""
    if member.depth and not member.open_lines:
        return f"({member.depth}) <b></b>"
    return branch(member.open_lines, has_overlays=member.has_overlays)
