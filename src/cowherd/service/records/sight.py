"""Which images a viewer sees, of those of the visibility that a query asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, exists, false, or_, true

from cowherd.service.records.facts import Index, unindexed
from cowherd.service.records.query import ALL, Query, Viewer
from cowherd.service.records.schema import images, members

_Spelling = Callable[[Column[Any]], ColumnElement[Any]]


def ways(query: Query, viewer: Viewer) -> list[Index]:
    """Returns an index for each way in which the viewer sees images that the query asks for."""
    hidden = images.c.os_hidden == query.os_hidden
    ways = [and_(hidden, way) for way in _open_ways(query, viewer, _plain)]
    found = [Index(images, way, images.c.created_at, images.c.id) for way in ways]
    if _asks_for_lent(query, viewer):
        lent = and_(_lent(query, viewer), unindexed(images.c.os_hidden) == query.os_hidden)
        found.append(Index(members, lent, images.c.created_at, images.c.id))
    return found or [Index(images, false(), images.c.created_at, images.c.id)]


def seen(query: Query, viewer: Viewer) -> ColumnElement[bool]:
    """Returns the condition that the viewer sees an image that the query asks for."""
    ways = _open_ways(query, viewer, unindexed)
    if _asks_for_lent(query, viewer):
        ways.append(exists().where(members.c.image_id == images.c.id, _lent(query, viewer)))
    return or_(false(), *ways)


def _open_ways(query: Query, viewer: Viewer, of: _Spelling) -> list[ColumnElement[bool]]:
    """Returns conditions of which each gives images that the viewer sees without having been lent them."""
    visibility, owner = of(images.c.visibility), of(images.c.owner)
    if viewer.everything:
        return [_everything(query, visibility, [owner == viewer.project] if viewer.project is not None else [])]
    found = [visibility == one for one in ("public", "community") if query.visibility in (one, ALL)]
    if query.visibility is None:
        found.append(visibility == "public")
    if viewer.project is not None and query.visibility not in ("public", "community"):
        own = owner == viewer.project
        some = query.visibility in (None, ALL)
        found.append(own if some else and_(own, unindexed(images.c.visibility) == query.visibility))
    return found


def _everything(query: Query, visibility: ColumnElement[Any], own: list[ColumnElement[bool]]) -> ColumnElement[bool]:
    if query.visibility == ALL:
        return true()
    return or_(visibility != "community", *own) if query.visibility is None else visibility == query.visibility


def _asks_for_lent(query: Query, viewer: Viewer) -> bool:
    return not viewer.everything and viewer.project is not None and query.visibility in (None, ALL, "shared")


def _lent(query: Query, viewer: Viewer) -> ColumnElement[bool]:
    lent = and_(members.c.member == viewer.project, unindexed(images.c.visibility) == "shared")
    return lent if query.member_status == ALL else and_(lent, members.c.status == query.member_status)


def _plain(column: Column[Any]) -> ColumnElement[Any]:
    return column
