"""What a request for a page of images asks for, and the links to the pages before and after."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from cowherd.service.records.pages import RANGES, SORT_KEYS, Moment, Query
from cowherd.service.web.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Parameters = Sequence[tuple[str, str]]

FILTERS = {
    "limit": "how many images; 0 for none",
    "marker": "the image after which the page begins",
    "sort": "keys with directions, as in name:asc,size:desc",
    "sort_key, sort_dir": "the same as older clients have it, each repeated",
    "name, id, status, container_format, disk_format": "one value, or several as in in:a,b; one with a comma in quotation marks",
    "owner, checksum, os_hash_algo, os_hash_value": "exactly this",
    "protected": "true or false",
    "os_hidden": "true for those that lists leave out, false for the others (default)",
    "visibility": "public, private, shared, community, or all; without it community images are left out",
    "member_status": "of images that are shared with the caller: pending, accepted (default), rejected, or all",
    "tag": "repeated: images that have all of these",
    "size, min_ram, min_disk": "exactly this; with _min or _max at the end at least or at most",
    "created_at, updated_at": "a time, or gt: gte: lt: lte: eq: neq: with a time in ISO 8601",
    "any other name": "images that have this property with this value",
}
"""What clients are told of the parameters."""
_LISTED = ("name", "id", "status", "container_format", "disk_format")
"""The filters that take several values, as in `in:a,b`."""
_EXACT = ("owner", "checksum", "os_hash_algo", "os_hash_value")
_VISIBILITIES = ("community", "public", "private", "shared", "all")
_MEMBER_STATUSES = ("pending", "accepted", "rejected", "all")
_COMPARISONS = ("gt", "gte", "lt", "lte", "eq", "neq")
_NO_FILTERS = frozenset(
    ("limit", "marker", "sort", "sort_key", "sort_dir", "tag", "tags", "member_status", "visibility", "os_hidden", "deleted")
)
_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"(?:,|\Z)|([^,"]*)(?:,|\Z)')
_MOST_NUMBER = (1 << 63) - 1


def parse_query(parameters: Parameters, default_limit: int, most: int) -> Query:
    """Returns the page that a query asks for; of a parameter given twice the last one counts. Raises `BadRequest`."""
    last = dict(parameters)
    if "changes-since" in last:
        raise BadRequest('The "changes-since" filter is no longer available on v2.')
    fields: dict[str, Any] = defaultdict(dict)
    moments: list[Moment] = []
    for name, value in last.items():
        if name not in _NO_FILTERS:
            _add_filter(name, value, fields, moments)
    return Query(
        **fields,
        moments=moments,
        tags=[value.strip() for name, value in parameters if name in ("tag", "tags")],
        visibility=_one_of("visibility value", last.get("visibility") or None, _VISIBILITIES),
        os_hidden=_truth("os_hidden", last.get("os_hidden", "false").lower()),
        member_status=_one_of("status", last.get("member_status", "accepted"), _MEMBER_STATUSES),
        sort=_parse_sort(parameters),
        limit=_page_limit(last, default_limit, most),
        marker=last.get("marker"),
    )


def links(path: str, parameters: Parameters, after: str | None) -> dict[str, str]:
    """Returns the links of a page: to the first one, and to the next one, which begins after the thing `after`."""
    kept = [(name, value) for name, value in parameters if name != "marker"]
    found = {"first": f"{path}?{urlencode(kept)}" if kept else path}
    if after is not None:
        found["next"] = f"{path}?{urlencode([*kept, ('marker', after)])}"
    return found


def _add_filter(name: str, value: str, fields: dict[str, Any], moments: list[Moment]) -> None:
    bounded, _, end = name.rpartition("_")
    if bounded in RANGES and end in ("min", "max"):
        fields["at_least" if end == "min" else "at_most"][bounded] = _number(name, value)
    elif name in RANGES:
        fields["at_least"][name], fields["at_most"][name] = _exactly(name, value)
    elif name in ("created_at", "updated_at"):
        moments.append(_moment(name, value))
    elif name in _LISTED:
        fields["choices"][name] = _choices(value)
    elif name == "protected":
        fields["choices"][name] = [_truth(name, value)]
    elif name in _EXACT:
        fields["choices"][name] = [value]
    else:
        fields["properties"][name] = value


def _exactly(name: str, value: str) -> tuple[int, int]:
    """Returns the least and the most that is exactly a value. No number is what is none."""
    try:
        return (_number(name, value),) * 2
    except BadRequest:
        return 1, 0


def _number(name: str, value: str) -> int:
    try:
        number = int(value)
    except ValueError as error:
        raise BadRequest(f"Unable to filter on a range with a non-numeric value: {name}") from error
    return max(-_MOST_NUMBER, min(number, _MOST_NUMBER))


def _page_limit(last: dict[str, str], default: int, most: int) -> int:
    limit = _limit(last["limit"]) if "limit" in last else default
    # No image has a visibility without a name.
    return 0 if last.get("visibility") == "" else min(limit, most)


def _limit(text: str) -> int:
    try:
        limit = int(text)
    except ValueError as error:
        raise BadRequest("limit param must be an integer") from error
    if limit < 0:
        raise BadRequest("limit param must be positive")
    return limit


def _one_of(what: str, value: Any, allowed: tuple[str, ...]) -> Any:
    if value is not None and value not in allowed:
        raise BadRequest(f"Invalid {what}: {value}")
    return value


def _truth(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise BadRequest(f"Invalid value '{value}' for '{name}' filter. Valid values are 'true' or 'false'.")
    return value == "true"


def _moment(name: str, value: str) -> Moment:
    try:
        return Moment(name, "eq", _time(value))  # type: ignore[arg-type]  # one of the two names, as the caller saw
    except ValueError:
        comparison, _, text = value.partition(":")
    if comparison not in _COMPARISONS:
        raise BadRequest(f"Unable to filter by unknown operator '{comparison}'.")
    try:
        return Moment(name, comparison, _time(text))  # type: ignore[arg-type]
    except ValueError as error:
        raise BadRequest(f'Bad "{name}" query filter format. Use ISO 8601 DateTime notation.') from error


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace(" ", "+"))  # the plus of a zone that was not encoded arrives as a space
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _choices(value: str) -> list[str]:
    operator, colon, listed = value.partition(":")
    if not colon or operator == "eq":
        return [listed if colon else value]
    if operator != "in":
        raise BadRequest(f"Unable to filter by unknown operator '{operator}'.")
    found, at = [], 0
    while at < len(listed):
        item = _ITEM.match(listed, at)
        if not item:
            raise BadRequest(f"Invalid filter value {listed}. Quotation marks stand around whole values.")
        found.append(item[1] if item[1] is not None else item[2])
        at = item.end()
    return found or [""]


def _parse_sort(parameters: Parameters) -> list[tuple[str, bool]]:
    def values(wanted: str) -> list[str]:
        return [value.strip() for name, value in parameters if name == wanted]

    new, keys, directions = values("sort"), values("sort_key"), values("sort_dir")
    if new and (keys or directions):
        raise BadRequest("Old and new sorting syntax cannot be combined")
    if new:
        pairs = [part.partition(":") for part in new[-1].split(",")]
        return _once([(_sort_key(key), _descends(direction or "desc")) for key, _, direction in pairs])
    keys = [_sort_key(key) for key in keys]
    descending = [_descends(direction) for direction in directions]
    if len(descending) > 1 and len(descending) != len(keys):
        raise BadRequest("Number of sort dirs does not match the number of sort keys")
    if len(descending) > 1:
        return _once(zip(keys, descending, strict=True))
    # One direction is that of all, also of those that make the order certain.
    descends = descending[0] if descending else True
    completed = [*keys, *(key for key in ("created_at", "id") if key not in keys)]
    return _once((key, descends) for key in completed) if keys or directions else []


def _once(sort: Iterable[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Returns an order without keys that come again: they decide nothing."""
    first: dict[str, bool] = {}
    for key, descends in sort:
        first.setdefault(key, descends)
    return list(first.items())


def _sort_key(key: str) -> str:
    if key.strip() not in SORT_KEYS:
        raise BadRequest(f"Invalid sort key: {key}. It must be one of the following: {', '.join(SORT_KEYS)}.")
    return key.strip()


def _descends(direction: str) -> bool:
    if direction.strip() not in ("asc", "desc"):
        raise BadRequest(f"Invalid sort direction: {direction}")
    return direction.strip() == "desc"
