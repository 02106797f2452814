"""What the pages say of images, times and sizes, as HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from cowherd.pages.markup import count_of, text
from cowherd.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cowherd.service.records.image import Image

_MOST_RANGES = 20
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"))
_VISIBLE = {"public": "everybody", "community": "everybody who knows it"}


def name_of(name: str | None, image_id: str) -> str:
    """Returns the name of an image, or its id if it has none; what is written from right to left stays where it is."""
    return f"<bdi class=name>{text(name or image_id)}</bdi>"


def link_to(home: str, name: str | None, image_id: str) -> str:
    """Returns a link to the page of an image; `home` leads to the first page, as "" or "../"."""
    return f'<a href="{home}images/{text(quote(image_id, safe=""))}">{name_of(name, image_id)}</a>'


def size_of(size: int | None) -> str:
    """Returns a number of bytes for people."""
    return "?" if size is None else human_size(size)


def span_of(seconds: float) -> str:
    """Returns how long something takes, in its largest unit."""
    for length, unit in _SPANS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def ago(moment: datetime | None, now: datetime) -> str:
    """Returns how long ago a moment was, with the moment itself for those who want it exactly; "never" for None."""
    if moment is None:
        return "never"
    machine, exact = moment.isoformat(timespec="seconds"), moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    return f'<time datetime="{machine}" title="{exact}">{span_of((now - moment).total_seconds())} ago</time>'


def who_sees(image: Image, members: int) -> str:
    """Returns who may see an image."""
    if image.visibility in _VISIBLE:
        return _VISIBLE[image.visibility]
    owner = "administrators" if image.owner is None else f"project <bdi>{text(image.owner)}</bdi>"
    return f"{owner} and {count_of(members, 'other')}" if image.visibility == "shared" and members else owner


def ranges_of(ranges: Sequence[Sequence[int]]) -> str:
    """Returns ranges (start, end) of bytes, half-open; of many only the first."""
    told = ", ".join(f"bytes {start:,} to {end - 1:,}" for start, end in ranges[:_MOST_RANGES])
    left = len(ranges) - _MOST_RANGES
    return f"{told}, and {count_of(left, 'more range')}" if left > 0 else told


def host_in(address: str) -> str | None:
    """Returns the name of the host in an address, in lower case; None if there is none."""
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
