"""What a comparison of two images found, and why it could not go on."""

from __future__ import annotations

from cowherd.errors import CowherdError
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypeAlias

    from cowherd.urls import Url

    Reason: TypeAlias = Literal["content", "size", "status"]


class Comparison(NamedTuple):
    """What a comparison found. `offset` is a guest byte.

    `reason` is None for identical images; "content" at `offset`, a multiple of 512; "size" (strict mode only, without an
    offset); or "status" at `offset` (strict mode only). `size_differs` says whether the sizes are different: outside of strict
    mode, the smaller image then counts as zeros past its end.
    """

    identical: bool
    offset: int | None = None
    reason: Reason | None = None
    size_differs: bool = False
    smaller_size: int = 0

    @property
    def passed_smaller_end(self) -> bool:
        """Whether the sizes differ, and all bytes that both images have were found to be equal."""
        return self.size_differs and self.reason != "size" and (self.offset is None or self.offset >= self.smaller_size)

    def to_json(self) -> dict[str, Any]:
        """Returns its fields."""
        return self._asdict()


class ReadFailed(CowherdError):
    """One of the images could not be read. Attributes: `path`, `offset` (a guest byte), `error`, the reason."""

    def __init__(self, path: str | Url, offset: int, error: CowherdError):
        self.path, self.offset, self.error = str(path), offset, error

    def __str__(self) -> str:
        return f"Error while reading offset {self.offset} of {self.path}: {self.error}"
