"""The kinds of findings of the doctor, from worst to best."""

from __future__ import annotations

import enum

from cowherd.paths import as_path
from cowherd.text import path_order
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


class Kind(enum.StrEnum):
    """The kinds of findings; docs/daily.md explains each. Earlier ones are worse; those from `UNSEALED_BASE` on are notes."""

    TWO_WRITERS = "two-writers"
    RUNNING_ON_DELETED = "running-on-deleted"
    RUNNING_ON_REPLACED = "running-on-replaced"
    CHAIN_DIFFERS = "chain-differs"
    MISSING_BASE = "missing-base"
    LOOP = "loop"
    MERGE_INTERRUPTED = "merge-interrupted"
    LOST_IMAGE = "lost-image"
    UNREADABLE = "unreadable"
    CORRUPT = "corrupt"
    DAMAGED_TABLES = "damaged-tables"
    DRIFTED = "drifted"
    REPLACED = "replaced"
    DISPUTED_FORMAT = "disputed-format"
    BINDING_MISMATCH = "binding-mismatch"
    WRITTEN_NOW = "written-now"
    NO_LOCKS = "no-locks"
    UNVOUCHED = "unvouched"
    TOUCHED = "touched"
    UNKNOWN_BASE = "unknown-base"
    UNSEEN_PLACE = "unseen-place"
    NO_FORMAT = "no-format"
    BROKEN_NAME = "broken-name"
    DIRTY = "dirty"
    DOMAIN_WITHOUT_DISK = "domain-without-disk"
    JOB_WAITING = "job-waiting"
    LEFTOVER = "leftover"
    BITMAP_INCONSISTENT = "bitmap-inconsistent"
    NOT_ANSWERING = "not-answering"
    UNSEALED_BASE = "unsealed-base"
    WRITABLE_BASE = "writable-base"
    UNBOUND = "unbound"
    SMALLER_BASE = "smaller-base"
    FRAGILE_NAME = "fragile-name"
    DEEP_CHAIN = "deep-chain"
    LEAKED = "leaked-clusters"
    COPIED_BASE = "copied-base"
    UNNAMED_DISK = "unnamed-disk"
    NOT_READ = "not-read"
    FORGOTTEN = "forgotten"
    HIDDEN = "hidden"

    @property
    def is_note(self) -> bool:
        """Whether a herd with only such findings counts as healthy."""
        return _ORDER[self] >= _ORDER[Kind.UNSEALED_BASE]


_ORDER = {kind: number for number, kind in enumerate(Kind)}


class Finding(NamedTuple):
    """One finding: its kind, the image's path as text, a sentence, and a remedy.

    `remedy` is a command, as words, that ends the finding; if no command can, it is empty and `detail` says what a person has
    to do.
    """

    kind: Kind
    filename: str
    detail: str
    remedy: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """`filename` as a path."""
        return as_path(self.filename)

    @property
    def rank(self) -> tuple[int, str]:
        """Sort key, the worst first."""
        return _ORDER[self.kind], path_order(self.filename)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd doctor --json` prints them."""
        return {
            "kind": self.kind.value,
            "note": self.kind.is_note,
            "path": self.filename,
            "detail": self.detail,
            "remedy": list(self.remedy),
        }
