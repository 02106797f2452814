"""What verify can say of an image."""

from __future__ import annotations

import enum


class Status(enum.StrEnum):
    """What is known of an image's content; docs/guard.md defines each. Later ones are worse."""

    OK = "ok"
    UNSEALED = "unsealed"
    UNKNOWN = "unknown"
    TOUCHED = "touched"
    DRIFTED = "drifted"
    REPLACED = "replaced"
    BINDING_MISMATCH = "binding-mismatch"
    UNTRUSTED = "untrusted"
    MERGE_INTERRUPTED = "merge-interrupted"
    MISSING_BASE = "missing-base"

    @property
    def is_fine(self) -> bool:
        """Whether verify exits with 0 for it."""
        return self in (Status.OK, Status.UNSEALED)
