"""What can go wrong once a merge has begun: every other disk still reads as before, and `recover` goes on from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.errors import CowherdError
from cowherd.text import shown

if TYPE_CHECKING:
    from pathlib import Path


class MergeFailed(CowherdError):
    """What was written does not read back as planned, or the herd is not as the journal says. Attributes: `image`, `problem`."""

    exit_code = 4

    def __init__(self, image: Path, problem: str):
        self.image, self.problem = image, problem

    def __str__(self) -> str:
        return f"{shown(self.image)}: {self.problem}; the overlay is kept, and so is the journal of the merge"


class MergeInterrupted(CowherdError):
    """A merge stopped after it had begun to change the base. Attributes: `base`, `overlay`, `journal`, `reason`."""

    def __init__(self, base: Path, overlay: Path, journal: Path, reason: BaseException):
        self.base, self.overlay, self.journal = base, overlay, journal
        self.reason = str(reason) or type(reason).__name__
        self.exit_code = getattr(reason, "exit_code", CowherdError.exit_code)

    def __str__(self) -> str:
        return (
            f"the merge of {shown(self.overlay)} into {shown(self.base)} was interrupted: {self.reason}. All other disks "
            f"read as before; 'cowherd recover {shown(self.journal.parent)}' finishes it"
        )
