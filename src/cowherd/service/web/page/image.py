"""The page of one image: what it is, where it is, what is wrong and what to do, what it stands on, and what happened to it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from cowherd.pages.markup import count_of, marked, text
from cowherd.service.policy.personas import Persona
from cowherd.service.records.events import Event, list_events
from cowherd.service.records.faults import ImageNotFound
from cowherd.service.records.image import Image, now
from cowherd.service.records.lineage import content_of
from cowherd.service.records.surroundings import Surroundings, overlays_on, surroundings
from cowherd.service.web.access import require_image, sees_own, viewer
from cowherd.service.web.call import whole_number
from cowherd.service.web.operation import operation
from cowherd.service.web.page.details import content_facts, image_facts, places_table
from cowherd.service.web.page.frame import FRAMED, HTML, page_answer
from cowherd.service.web.page.history import history
from cowherd.service.web.page.tables import Table
from cowherd.service.web.page.trees import families_of
from cowherd.service.web.page.words import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection
    from starlette.responses import Response

    from cowherd.service.web.call import Call

EVENTS, OVERLAYS = 100, 50
"""How many events and how many overlays the page has at most."""
_HOME = "../"


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One image at a moment: what surrounds it, its first overlays and whether there are more, and its latest events.

    The events are those of an image of the caller's own, or of one that is gone (`image` is None), for administrators.
    """

    now: datetime
    image_id: str
    image: Image | None
    around: Surroundings
    overlays: list[Image]
    are_more: bool
    events: list[Event]


@operation(
    "get_image",
    gives={HTML: None},
    query={"before": "the number of an event: only what happened before it"},
    sent=FRAMED,
    means={404: "there is no such image, or the caller may not see it; of a deleted one the page tells what happened to it"},
)
def show(call: Call) -> Response:
    """Shows the page of the image that the path names. Raises `NotFound` where the API does."""
    shown = _shown(call)
    title = shown.image_id if shown.image is None else shown.image.name or shown.image_id
    return page_answer(f"{title} - image service", _parts(call, shown), 200 if shown.image else 404)


def _shown(call: Call) -> Shown:
    before = dict(call.query).get("before")
    earlier = None if before is None else whole_number(before, "The number of an event")
    with call.service.database.read() as connection:
        image = _find(call, connection)
        image_id = call.names["image_id"] if image is None else image.id
        seen = list_events(connection, image_id=image_id, before=earlier, limit=EVENTS + 1)
        content = None if image is None or image.blob is None else content_of(connection, image.id)
        above = overlays_on(connection, content, viewer(call), OVERLAYS + 1) if content and image else []
        if image is None and not seen:
            raise ImageNotFound(image_id)
        near = [] if image is None else [image, *(one for one in above[:OVERLAYS] if one.id != image.id)]
        return Shown(
            now=now(),
            image_id=image_id,
            image=image,
            around=surroundings(connection, near, viewer(call)),
            overlays=near[1:],
            are_more=len(above) > OVERLAYS,
            events=seen if image is None or sees_own(call, image) else [],
        )


def _find(call: Call, connection: Connection) -> Image | None:
    """Returns the image that the path names; None if there is none any more, and the caller may know what happened to it."""
    try:
        return require_image(call, connection, "get_image")
    except ImageNotFound:
        if call.caller.has(Persona.ADMIN):
            return None
        raise


def _parts(call: Call, shown: Shown) -> Iterator[str]:
    image = shown.image
    yield f"<header><nav aria-label='to all images'><a href='{_HOME}'>Image service</a></nav>"
    yield f"<h1>{name_of(None if image is None else image.name, shown.image_id)}</h1>"
    if image is None:
        yield "<p>This image was deleted.</p></header><main>"
    else:
        table = Table(call, shown.around, shown.now, _HOME)
        families = [table.lines(family) for family in families_of([image, *shown.around.under, *shown.overlays])]
        state = next(line.state for family in families for line in family if line.image.id == image.id)
        yield f"<p class=verdict>{marked(state.severity, state.words)}</p></header><main>"
        yield from _of_image(call, shown, image)
        yield "<section><h2>What it stands on, and what stands on it</h2>"
        for family in families:
            yield from table.rows(family)
        yield from _left_out(shown)
        yield "</section>"
    yield from history(shown.events[:EVENTS], shown.now, is_more=len(shown.events) > EVENTS)
    yield "</main>"


def _of_image(call: Call, shown: Shown, image: Image) -> Iterator[str]:
    is_own = sees_own(call, image)
    if is_own and image.reason:
        yield f"<section class=reason><h2>What is wrong, and what to do</h2><p>{text(image.reason)}</p></section>"
    yield "<section><h2>The image</h2>"
    yield from image_facts(image, shown.around, shown.now, is_own=is_own)
    yield "</section><section><h2>Its content</h2>"
    yield from content_facts(call, image, shown.around)
    if is_own:
        yield from places_table(shown.around.places.get(image.blob or "", []), shown.now)
    yield "</section>"


def _left_out(shown: Shown) -> Iterator[str]:
    """Yields how many overlays there are beside those that are drawn."""
    above, drawn = shown.around.above.get(shown.image_id, 0), len(shown.overlays)
    if above > drawn:
        rest = "" if shown.are_more else ", the others you may not see"
        yield f"<p class=faint>{count_of(above, 'overlay')} in all; {drawn:,} are shown{rest}.</p>"
