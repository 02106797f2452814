"""What one client knows of its images: what was acknowledged, and what may have come about without an answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tests.service.load.contents import Content

ABSENT, QUEUED, STAGED, COMING, ARRIVING, ACTIVE = "absent", "queued", "staged", "coming", "arriving", "active"
"""What an image may be: staged waits for its import, coming is being imported, arriving is a resumable upload."""
_STATUSES = {
    QUEUED: {"queued"},
    STAGED: {"uploading"},
    COMING: {"uploading", "importing", "active"},
    ARRIVING: {"uploading"},
    ACTIVE: {"active"},
}


class State(NamedTuple):
    """A state, with the content that the image has in it or is about to have."""

    name: str
    content: Content | None = None

    def fits(self, status: str | None) -> bool:
        """Tells whether an image in this state may show itself so; None: there is none."""
        return status is None if self.name == ABSENT else status in _STATUSES[self.name]


@dataclass
class Held:
    """An image of a client's: the `states` that it may be in, and the values that its property may have."""

    id: str
    disk_format: str
    states: set[State]
    marks: set[str | None] = field(default_factory=lambda: {None})
    upload: str | None = None
    """The path of its resumable upload."""
    offset: int = 0
    """Up to where its bytes were acknowledged."""

    @property
    def state(self) -> State:
        """The state, where it is known."""
        (state,) = self.states
        return state

    def try_state(self, *possible: State) -> None:
        """Notes that a request was sent that may lead to other states."""
        self.states |= set(possible)

    def know_state(self, state: State) -> None:
        """Notes the state that an answer told of."""
        self.states = {state}
