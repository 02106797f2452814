"""The results that verify can give for an image."""

from __future__ import annotations

import enum


class Status(enum.StrEnum):
    """What is known of an image's content; docs/guard.md defines each. Later ones are worse."""

    OK = "ok"
    UNSEALED = "unsealed"
    ATTRIBUTES = "attributes"
    UNKNOWN = "unknown"
    TOUCHED = "touched"
    UNVOUCHED = "unvouched"
    DRIFTED = "drifted"
    REPLACED = "replaced"
    BINDING_MISMATCH = "binding-mismatch"
    UNTRUSTED = "untrusted"
    MERGE_INTERRUPTED = "merge-interrupted"
    MISSING_BASE = "missing-base"

    @property
    def is_fine(self) -> bool:
        """Whether verify exits with 0 for this status."""
        return self in (Status.OK, Status.UNSEALED, Status.ATTRIBUTES)

    @property
    def holds(self) -> bool:
        """Whether the image still holds its sealed content: at most owner, mode, labels or links of the file changed."""
        return self in (Status.OK, Status.ATTRIBUTES)
