"""The result of a rebase, and its own error."""

from __future__ import annotations

from cowherd.errors import CowherdError
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Rebased(NamedTuple):
    """The result of a rebase: bytes of old and new backing file that it compared, and bytes that it wrote into the overlay."""

    bytes_compared: int = 0
    bytes_written: int = 0

    def to_json(self) -> dict[str, Any]:
        """Returns its fields."""
        return self._asdict()


class NewBackingFileError(CowherdError):
    """The new backing file can't be opened. Attributes: `backing` (the name as given), `error` (the reason)."""

    def __init__(self, backing: str, error: CowherdError):
        self.backing, self.error = backing, error

    def __str__(self) -> str:
        return f"Could not open new backing file '{printable(self.backing)}': {self.error}"
