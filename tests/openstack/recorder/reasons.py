"""Differences from Glance that are meant: each with its reason, which the documentation repeats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tests.openstack.recorder.compare import Difference, table


class Reason(NamedTuple):
    """Why answers differ, and which: `part` and `title` are patterns; `glance`, if any, is what Glance has there."""

    why: str
    part: str
    title: str = ""
    glance: tuple[object, ...] = ()


REASONS = (
    Reason(
        "Every answer names its request, also those that Glance gives before it has looked at the request.",
        r"header x-openstack-request-id",
        glance=("(absent)",),
    ),
    Reason(
        "What was uploaded can be fetched in parts, and need not be fetched again: Glance says nothing of that.",
        r"header (accept-ranges|etag|last-modified|content-digest|vary|cache-control)",
        glance=("(absent)",),
    ),
    Reason("The length of every body is said.", r"header content-length", glance=("(absent)",)),
    Reason("Glance fails on the request.", r"status", glance=(0, 500)),
)


def reason_for(difference: Difference) -> Reason | None:
    """Returns the reason for a difference, None if nobody has given one."""
    return next((reason for reason in REASONS if _fits(reason, difference)), None)


def _fits(reason: Reason, difference: Difference) -> bool:
    at_glance = not reason.glance or difference.glance in reason.glance
    return at_glance and bool(re.fullmatch(reason.part, difference.part)) and bool(re.search(reason.title, difference.title))


def report(found: Sequence[Difference]) -> tuple[str, bool]:
    """Returns what to print of differences, and whether each has a reason. Those that have one are only counted."""
    counts = Counter(reason.why for one in found if (reason := reason_for(one)))
    unexplained = [one for one in found if reason_for(one) is None]
    answers = len({one.title for one in unexplained})
    lines = [f"{count} times: {why}" for why, count in counts.most_common()]
    lines += [table(unexplained), f"{len(unexplained)} differences without a reason, in {answers} answers"]
    return "\n".join(filter(None, lines)), not unexplained
