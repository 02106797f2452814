"""Differences from Glance that are meant: each with its reason, which the documentation repeats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tests.openstack.recorder.compare import Difference, table


class Reason(NamedTuple):
    """Why answers differ, and which.

    `part`, `title`: patterns, the first for the whole part. `glance`, `ours`: what stands there, where that matters.
    """

    why: str
    part: str
    title: str = ""
    glance: tuple[object, ...] = ()
    ours: tuple[object, ...] = ()


_ABSENT = ("(absent)",)

REASONS = (
    Reason(
        "Every answer names its request, also those that Glance gives before it has looked at the request.",
        "header x-openstack-request-id",
        glance=_ABSENT,
    ),
    Reason(
        "What was uploaded can be fetched in parts, and need not be fetched again: Glance says nothing of that.",
        "header (accept-ranges|etag|last-modified|content-digest|vary|cache-control|content-range)",
        glance=_ABSENT,
    ),
    Reason("The length of every body is said.", "header content-length", glance=_ABSENT),
    Reason("An answer without a body has neither a length nor a type.", "header content-(length|type)", ours=_ABSENT),
    Reason("Without keystone the challenge names none.", "header www-authenticate", ours=("Token",)),
    Reason("Glance fails on the request.", "status", glance=(0, 500)),
    Reason(
        "HEAD and If-None-Match save a download.", "status", "HEAD /v2/images/{a}/file|If-None-Match", (200, 405), (200, 204, 304)
    ),
    Reason("HEAD is among the methods of a file.", "header allow", "/v2/images/{a}/file", ("GET, PUT",), ("GET, HEAD, PUT",)),
    Reason("Why an image has no content is said in its record.", r"body\.cowherd_reason", glance=_ABSENT),
    Reason(
        "Nothing is known of refused content: Glance keeps its digests and the name of its store.",
        r"body\.(checksum|os_hash_algo|os_hash_value|stores|size|virtual_size)",
        r"upload formats: GET .*\(after ",
        ours=(None, "(absent)"),
    ),
    Reason(
        "Links to pages keep a parameter that was given several times; Glance keeps its last value only, and gives another page.",
        r"body\.(first|next)",
        r"[?&](\w+)=[^&]*&(.*&)?\1=",
    ),
    Reason(
        "A NUL is no character of a name: PostgreSQL could not store it.", "status", r"%00|\\u0000", (200, 201, 204), (400, 404)
    ),
    Reason(
        "A name of more than 255 characters is refused where it is changed, as where it is made.",
        "status",
        '"/x{80}',
        (200,),
        (400,),
    ),
    Reason("Characters outside of the basic plane are characters.", "status", r"\\ud83d\\udc02", (400,), (201,)),
    Reason("A document may come in chunks.", "status", "Transfer-Encoding: chunked", (400,), (201,)),
)


def reason_for(difference: Difference) -> Reason | None:
    """Returns the reason for a difference, None if nobody has given one."""
    return next((reason for reason in REASONS if _fits(reason, difference)), None)


def _fits(reason: Reason, difference: Difference) -> bool:
    if not re.fullmatch(reason.part, difference.part) or not re.search(reason.title, difference.title):
        return False
    return (not reason.glance or difference.glance in reason.glance) and (not reason.ours or difference.ours in reason.ours)


def report(found: Sequence[Difference]) -> tuple[str, bool]:
    """Returns what to print of differences, and whether each has a reason. Those that have one are only counted."""
    counts = Counter(reason.why for one in found if (reason := reason_for(one)))
    unexplained = [one for one in found if reason_for(one) is None]
    answers = len({one.title for one in unexplained})
    lines = [f"{count} times: {why}" for why, count in counts.most_common()]
    lines += [table(unexplained), f"{len(unexplained)} differences without a reason, in {answers} answers"]
    return "\n".join(filter(None, lines)), not unexplained
