"""The states that an image can have on the page: what its files say, or where its base was read, what it sees of the change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.herd.records.status import Status
from cowherd.pages.markup import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable


_BAD = (
    *("torn", "unreadable", "missing-base", "merge-interrupted", "untrusted", "replaced", "drifted", "damaged"),
    *("binding-mismatch", "unvouched", "touched", "unknown"),
)
_WORST_FIRST = (*_BAD, "altered", "synchronised", "harmless", "unsealed", "attributes", "intact", "ok")
_RANKS = {word: rank for rank, word in enumerate(_WORST_FIRST)}
_SEVERITIES = (
    dict.fromkeys(_WORST_FIRST, Severity.QUIET)
    | dict.fromkeys(_BAD, Severity.BAD)
    | dict.fromkeys(("altered", "synchronised"), Severity.WARN)
    | dict.fromkeys(("intact", "ok"), Severity.GOOD)
)
_OF_THE_BASE = frozenset((Status.DRIFTED, Status.REPLACED, Status.TOUCHED, Status.UNSEALED, Status.ATTRIBUTES, Status.OK))


def rank_of(state: str) -> int:
    """Returns the place of a state among all, 0 for the worst."""
    return _RANKS[state]


def severity_of(state: str) -> Severity:
    """Returns how bad a state is."""
    return _SEVERITIES[state]


def worst_of(states: Iterable[str]) -> str:
    """Returns the worst of some states; there must be one."""
    return min(states, key=_RANKS.__getitem__)


def state_of(status: Status, verdicts: Iterable[str], *, sealed: bool) -> str:
    """Returns the one state of an image, from its status and the verdicts on what it sees of changed bases.

    An overlay has the status of its base where nothing is wrong with itself: then the verdict says more, and is all that counts.
    """
    found = list(verdicts)
    return worst_of([*found, *([] if found and status in _OF_THE_BASE and not sealed else [status.value])])
