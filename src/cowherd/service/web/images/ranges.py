"""Which bytes of a content a request asks for: the headers Range and If-Range, and what Glance takes in their place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from cowherd.service.web.errors import BadRequest, RangeNotSatisfiable

if TYPE_CHECKING:
    from collections.abc import Mapping

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*\Z", re.ASCII | re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"\s*bytes\s+(\d+)-(\d+)/(?:\d+|\*)\s*\Z", re.ASCII | re.IGNORECASE)
_MOST_DIGITS = 19


class Range(NamedTuple):
    """The bytes from `start` to before `end`."""

    start: int
    end: int


def wanted_range(headers: Mapping[str, str], size: int, validators: frozenset[str]) -> Range | None:
    """Returns the bytes that are asked for of `size`, or None for all of them.

    `validators` are the values of If-Range that mean the content as it is; with another one all of it is given. Raises
    `BadRequest` for several ranges, and `RangeNotSatisfiable` for one that is malformed or has no byte of the content.
    """
    wanted = headers.get("range")
    if wanted is not None:
        if headers.get("if-range") is not None and headers["if-range"].strip() not in validators:
            return None
        return _of_range(wanted, size)
    given = headers.get("content-range")  # clients of old ask so, and Glance still answers
    return None if given is None else _of_content_range(given, size)


def _refusal(problem: str, size: int) -> RangeNotSatisfiable:
    return RangeNotSatisfiable(problem, {"Content-Range": f"bytes */{size}"})


def _of_range(text: str, size: int) -> Range:
    if "," in text:
        raise BadRequest("Requests with multiple ranges are not supported. Please make multiple single-range requests instead.")
    found = _RANGE.match(text)
    first, last = found.groups() if found else ("", "")
    if (not first and not last) or max(len(first), len(last)) > _MOST_DIGITS:
        raise _refusal("Invalid Range header.", size)
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if first and last and int(last) < start:
        raise _refusal("Invalid Range header.", size)
    if start >= size:
        raise _refusal(
            f"Invalid start position in Range header. Start position MUST be in the inclusive range [0, {size - 1}].", size
        )
    return Range(start, end)


def _of_content_range(text: str, size: int) -> Range:
    found = _CONTENT_RANGE.match(text)
    if not found or max(len(part) for part in found.groups()) > _MOST_DIGITS:
        raise _refusal("Invalid Content-Range header.", size)
    start, end = int(found[1]), int(found[2]) + 1
    if not start < end <= size:
        raise _refusal(f"Invalid Content-Range header. Positions MUST be in the inclusive range [0, {size - 1}].", size)
    return Range(start, end)
