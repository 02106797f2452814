"""What happened to an image, the latest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from cowherd.pages.markup import text
from cowherd.service.records.failures import FAILED
from cowherd.service.web.page.words import ago, host_in, ranges_of, size_of
from cowherd.service.web.page.work import table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from cowherd.service.records.events import Event

_COLUMNS = ("when", "what", "who", "details")
_LONGEST = 500
"""How many characters of one fact are shown."""
_UNTOLD = ("blob", "upload")
"""Facts that say nothing to people."""
_WORDS = {
    "image.create": "made",
    "image.adopt": "adopted from Glance",
    "image.copy": "copied to another store",
    "image.active": "content arrived",
    FAILED: "got no content",
    "image.stage": "content staged",
    "image.upload-begin": "upload begun",
    "image.upload": "upload ended",
    "image.upload-end": "upload given up",
    "image.import": "import asked for",
    "image.standalone": "standalone image asked for",
    "image.update": "changed",
    "image.tag": "tag set",
    "image.untag": "tag removed",
    "image.deactivate": "taken out of use",
    "image.reactivate": "taken into use again",
    "image.delete": "deleted",
    "member.add": "shared with a project",
    "member.answer": "a project answered",
    "member.remove": "no longer shared with a project",
    "location.add": "location added",
    "store.delete": "removed from a store",
    "cache.add": "put into the cache",
    "cache.remove": "taken from the cache",
    "task.create": "a task failed at once",
    "blob.damaged": "found damaged",
    "blob.missing": "found missing",
    "blob.whole": "whole again",
}


def history(events: Sequence[Event], now: datetime, *, is_more: bool) -> Iterator[str]:
    """Yields events, with a link to earlier ones if there are more."""
    if not events:
        return
    yield "<section id=history><h2>What happened</h2>"
    yield from table("what happened", _COLUMNS, (_row(event, now) for event in events))
    if is_more:
        yield f"<p><a rel=next href='?before={events[-1].id}#history'>What happened before</a></p>"
    yield "</section>"


def _row(event: Event, now: datetime) -> str:
    told = {name: value for name, value in event.detail.items() if name not in _UNTOLD and value not in (None, "", [])}
    facts = "; ".join(f"{text(name)}: <bdi>{_fact(name, value)}</bdi>" for name, value in told.items())
    what = text(_WORDS.get(event.action, event.action))
    return f"<tr><td>{ago(event.at, now)}</td><td>{what}</td><td>{_who(event)}</td><td class=wide>{facts}</td></tr>"


def _who(event: Event) -> str:
    """Returns who did it. A request of nobody comes from whoever reaches a service that need not know its callers."""
    if event.request_id is None:
        return "the service"
    known = " of ".join(f"<bdi class=name>{text(one)}</bdi>" for one in (event.user_id, event.project) if one)
    return known or "somebody on this host"


def _fact(name: str, value: Any) -> str:
    if name == "size" and isinstance(value, int):
        return size_of(value)
    if name == "damage" and isinstance(value, list):
        return ranges_of(value)
    shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if name == "url":  # of which parts may be secret
        shown = host_in(shown) or "?"
    return text(shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}...")
