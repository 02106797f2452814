"""The one state that an image has on the page: what its record says, and for content how whole that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cowherd.pages.markup import Severity
from cowherd.service.records import states
from cowherd.service.records.blobs import DAMAGED, WHOLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.service.records.image import Image
    from cowherd.service.records.places import Place

_ARRIVING = (states.SAVING, states.UPLOADING, states.IMPORTING)


class State(NamedTuple):
    """A state in words, and how bad it is."""

    words: str
    severity: Severity


ON_BAD = State("whole, its base is not", Severity.WARN)
"""The state of a whole image that stands on one that is damaged or missing."""


def state_of(image: Image, places: Sequence[Place]) -> State:
    """Returns the state of an image whose content is in these places."""
    if image.status == states.QUEUED:
        return State("got no content", Severity.WARN) if image.reason else State("waits for content", Severity.QUIET)
    if image.status in _ARRIVING:
        return State("arrives", Severity.QUIET)
    if image.status not in (states.ACTIVE, states.DEACTIVATED):
        return State(image.status.replace("_", " "), Severity.QUIET)
    return _of_content(image, places)


def _of_content(image: Image, places: Sequence[Place]) -> State:
    whole = [one for one in places if one.state == WHOLE]
    if places and not whole:
        damaged = any(one.state == DAMAGED for one in places)
        return State("damaged" if damaged else "missing", Severity.BAD)
    if len(whole) < len(places):
        return State("not whole in each store", Severity.WARN)
    if not places and not image.locations:
        return State("without content", Severity.BAD)
    if image.status == states.DEACTIVATED:
        return State("out of use", Severity.QUIET)
    return State("whole", Severity.GOOD) if places else State("elsewhere on the web", Severity.QUIET)
