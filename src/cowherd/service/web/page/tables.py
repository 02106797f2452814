"""Images as tables, one for each family, with the lines of its tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cowherd.pages.markup import Severity, branch, count_of, marked, text
from cowherd.service.policy.personas import Persona
from cowherd.service.web.access import sees_own
from cowherd.service.web.page.disk import used_bytes
from cowherd.service.web.page.states import ON_BAD, state_of
from cowherd.service.web.page.trees import families_of
from cowherd.service.web.page.words import ago, link_to, name_of, size_of, who_sees

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from cowherd.service.records.image import Image
    from cowherd.service.records.places import Place
    from cowherd.service.records.surroundings import Surroundings
    from cowherd.service.web.call import Call
    from cowherd.service.web.page.facts import Facts
    from cowherd.service.web.page.states import State
    from cowherd.service.web.page.trees import Row

_COLUMNS = ("image", "state", "size", "on disk", "who may see it", "verified")


class Line(NamedTuple):
    """An image in a table: its place in the tree, its state, and the bytes that it takes on disk (None: not known)."""

    row: Row
    state: State
    used: int | None

    @property
    def image(self) -> Image:
        """The image."""
        return self.row.image


def tree_of(call: Call, facts: Facts) -> Iterator[str]:
    """Yields the images of the page as families; those that stand alone come together, last."""
    if not facts.images:
        yield "<p class=faint>No images.</p>"
        return
    table = Table(call, facts.around, facts.now, "")
    families = [table.lines(family) for family in families_of([*facts.images, *facts.around.under])]
    alone = [family[0] for family in families if len(family) == 1]
    for family in families:
        if len(family) > 1:
            yield from table.family(name_of(family[0].image.name, family[0].image.id), family)
    if alone:
        yield from table.family("images that stand alone" if len(alone) > 1 else "an image that stands alone", alone)


class Table(NamedTuple):
    """Draws images with what surrounds them, for a caller, at a moment; `home` leads to the first page."""

    call: Call
    around: Surroundings
    now: datetime
    home: str

    def lines(self, family: Sequence[Row]) -> list[Line]:
        """Returns the images of a family as they are drawn: what is whole shows nothing good on a base that is not."""
        found: list[Line] = []
        bad: list[bool] = []  # of the images on the way down to the next one
        for row in family:
            places = self._places(row.image)
            state = state_of(row.image, places)
            del bad[row.depth :]
            if any(bad) and state.severity is Severity.GOOD:
                state = ON_BAD
            bad.append(state.severity is Severity.BAD)
            found.append(Line(row, state, used_bytes(self.call.service.stores, places) if places else None))
        return found

    def family(self, title: str, lines: Sequence[Line]) -> Iterator[str]:
        """Yields a family that can be closed; the title is HTML."""
        severities = [line.state.severity for line in lines]
        worst = min(severities, key=list(Severity).index)
        used = sum({line.image.blob: line.used or 0 for line in lines}.values())
        facts = f"{count_of(len(lines), 'image')}, {size_of(used)} on disk"
        yield f"<details class='family {worst}' open><summary><h3>{title}</h3><span class=states>{_states(lines)}</span>"
        yield f"<span class=faint>{facts}</span></summary>"
        yield from self.rows(lines)
        yield "</details>"

    def rows(self, lines: Sequence[Line]) -> Iterator[str]:
        """Yields a table of images."""
        heads = "".join(f"<th scope=col>{name}</th>" for name in _COLUMNS)
        yield "<div class=scroll tabindex=0 role=region aria-label=images><table class=tree>"
        yield f"<thead><tr>{heads}</tr></thead><tbody>"
        for line in lines:
            yield self._row(line)
        yield "</tbody></table></div>"

    def _row(self, line: Line) -> str:
        image = line.image
        cells = (
            f"{_branch(line.row)}{link_to(self.home, image.name, image.id)}{self._notes(line.row)}",
            line.state.words,
            size_of(image.size) if image.size is not None else "-",
            self._used(line),
            who_sees(image, self.around.members.get(image.id, 0) if sees_own(self.call, image) else 0),
            self._verified(image),
        )
        return f"<tr class={line.state.severity}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"

    def _notes(self, row: Row) -> str:
        """Returns what else is to be said of an image beside its name."""
        above, image = self.around.above.get(row.image.id, 0), row.image
        notes = [text(image.disk_format)] if image.disk_format else []
        notes += [f"{count_of(above, 'overlay')} in all"] if above > row.overlays else []
        notes += ["stands on an image that is not shown here"] if image.base_content is not None and row.depth == 0 else []
        return "".join(f" <small>{note}</small>" for note in notes)

    def _used(self, line: Line) -> str:
        if line.used is None:
            return "-"
        # That others have the same bytes is nothing that a project may find out.
        is_admin = self.call.caller.has(Persona.ADMIN)
        others = self.around.sharing.get(line.image.blob or "", 1) - 1 if is_admin else 0
        return f"{size_of(line.used)}{f' <small>shared with {others:,} more</small>' if others else ''}"

    def _verified(self, image: Image) -> str:
        places = self._places(image)
        if not places or not sees_own(self.call, image):
            return "-"
        moments = [one.verified_at for one in places]
        known = [one for one in moments if one is not None]
        return ago(min(known) if len(known) == len(moments) else None, self.now)

    def _places(self, image: Image) -> list[Place]:
        return self.around.places.get(image.blob or "", [])


def _states(lines: Sequence[Line]) -> str:
    """Returns how many images are in each state, the worst first."""
    counts: dict[State, int] = {}
    for line in lines:
        counts[line.state] = counts.get(line.state, 0) + 1
    worst = sorted(counts, key=lambda state: list(Severity).index(state.severity))
    return " ".join(marked(state.severity, f"{counts[state]:,} {state.words}") for state in worst)


def _branch(row: Row) -> str:
    """Returns the part of the tree that lies in a row."""
    if row.depth and not row.open_lines:
        return f"({row.depth}) <b></b>"
    return branch(row.open_lines, has_overlays=bool(row.overlays))
