"""The states of an image, and which may follow which, as the Image API has them.

One step is our own: a resumable upload leads from `uploading` to `active`, since nobody asks for an import then.
"""

from __future__ import annotations

QUEUED, SAVING, UPLOADING, IMPORTING = "queued", "saving", "uploading", "importing"
ACTIVE, DEACTIVATED, KILLED = "active", "deactivated", "killed"
PENDING_DELETE, DELETED = "pending_delete", "deleted"

TARGETS: dict[str, frozenset[str]] = {
    QUEUED: frozenset({SAVING, UPLOADING, IMPORTING, ACTIVE, DELETED}),
    SAVING: frozenset({ACTIVE, KILLED, DELETED, QUEUED}),
    UPLOADING: frozenset({IMPORTING, QUEUED, DELETED, ACTIVE}),
    IMPORTING: frozenset({ACTIVE, DELETED, QUEUED, UPLOADING}),
    ACTIVE: frozenset({DEACTIVATED, PENDING_DELETE, DELETED}),
    DEACTIVATED: frozenset({ACTIVE, DELETED}),
    KILLED: frozenset({DELETED}),
    PENDING_DELETE: frozenset({DELETED, ACTIVE}),
    DELETED: frozenset(),
}
"""Which states may follow each state. The record of a deleted image is gone, so no record says `deleted`."""


def sources(target: str) -> frozenset[str]:
    """Returns the states that `target` may follow."""
    return frozenset(state for state, targets in TARGETS.items() if target in targets)
