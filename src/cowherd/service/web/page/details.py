"""The facts of one image and of its content, as lists and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.pages.markup import Severity, marked, text
from cowherd.service.records.blobs import DAMAGED, WHOLE
from cowherd.service.web.page.disk import used_bytes
from cowherd.service.web.page.words import ago, ranges_of, size_of, who_sees
from cowherd.service.web.page.work import table
from cowherd.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from cowherd.service.records.image import Image
    from cowherd.service.records.places import Place
    from cowherd.service.records.surroundings import Surroundings
    from cowherd.service.web.call import Call

_PLACE_COLUMNS = ("store", "state", "verified", "how", "what is damaged")


def image_facts(image: Image, around: Surroundings, now: datetime, *, is_own: bool) -> Iterator[str]:
    """Yields what the record says of an image."""
    members = around.members.get(image.id, 0) if is_own else 0
    facts = [
        ("id", text(image.id)),
        ("status", text(image.status)),
        ("who may see it", who_sees(image, members)),
        ("project", _name(image.owner)),
        ("made", ago(image.created_at, now)),
        ("changed", ago(image.updated_at, now)),
        ("protected", "yes: nobody may delete it" if image.protected else "no"),
        ("listed", "no: it is hidden" if image.os_hidden else "yes"),
        ("tags", " ".join(_name(tag) for tag in image.tags) or "-"),
    ]
    facts += [(_name(name), _name(value)) for name, value in sorted(image.properties.items()) if is_own]
    yield from _listed(facts)


def content_facts(call: Call, image: Image, around: Surroundings) -> Iterator[str]:
    """Yields what is known of the content of an image."""
    if image.size is None and not image.locations:
        yield "<p class=faint>It has none yet.</p>"
        return
    places = around.places.get(image.blob or "", [])
    used = used_bytes(call.service.stores, places) if places else None
    facts = [
        ("format", text(f"{image.disk_format or '?'} in {image.container_format or '?'}")),
        ("size", _bytes(image.size)),
        ("size of the disk", _bytes(image.virtual_size)),
        ("on disk", _bytes(used)),
        ("BLAKE3", _name(image.blob)),
        ("MD5", _name(image.checksum)),
        (text(image.os_hash_algo or "hash").upper(), _name(image.os_hash_value)),
        ("stands on the content", _name(image.base_content)),
    ]
    yield from _listed((name, value) for name, value in facts if value != "-")


def places_table(places: Sequence[Place], now: datetime) -> Iterator[str]:
    """Yields in which stores a content is, in what state, and what of it is damaged."""
    if places:
        yield from table("places", _PLACE_COLUMNS, (_place(one, now) for one in places))


def _place(place: Place, now: datetime) -> str:
    severity = Severity.GOOD if place.state == WHOLE else Severity.BAD
    cells = (
        *(_name(place.store), marked(severity, text(place.state)), ago(place.verified_at, now)),
        *(text(place.verified_how or "-"), ranges_of(place.damage) if place.state == DAMAGED else "-"),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _listed(facts: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yields names with their values, both HTML."""
    yield "<dl>"
    for name, value in facts:
        yield f"<div><dt>{name}</dt><dd>{value}</dd></div>"
    yield "</dl>"


def _name(value: str | None) -> str:
    return "-" if value is None else f"<bdi class=name>{text(value)}</bdi>"


def _bytes(size: int | None) -> str:
    return "-" if size is None else f"{size_of(size)} ({size:,} bytes)" if size >= 1024 else human_size(size)
