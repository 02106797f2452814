"""How far two images show the same content, for images of few tables: without numpy, whose import takes longer than most of it.

Files that both chains end in are the same for both: only what the images above hold themselves is looked at. Bytes that are
not known to be equal are read and compared by as many threads as there are processors.
"""

from __future__ import annotations

import threading

from cowherd.errors import CowherdError
from cowherd.formats.outline import NeedsArrays
from cowherd.image.outline import Outline, open_outline, place_of, windows
from cowherd.kinds import BACKING, NOWHERE, ZERO
from cowherd.ops.workers import share_out
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cowherd.kinds import Row
    from cowherd.urls import ImageName

_READ_BYTES = 1 << 20
"""Read from each side at once: what stays in the processor's cache until it is compared."""


class ComparedTables(NamedTuple):
    """What was found: before guest byte `equal_until` both images show the same; the larger of `sizes` if they do throughout.

    From there on only `cowherd.ops.compare.disks` can tell: something differs, could not be read, or is not plain.
    """

    equal_until: int
    sizes: tuple[int, int]

    @property
    def identical(self) -> bool:
        """Whether nothing is left to look at."""
        return self.equal_until >= max(self.sizes)


def compare_tables(
    a: ImageName,
    b: ImageName,
    formats: tuple[str | None, str | None],
    *,
    force_share: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ComparedTables | None:
    """Compares two images up to where one could be in doubt; None if they are not for this module.

    `progress` is called with rising (bytes done, bytes in all). Raises what opening an image raises.
    """
    try:
        with (
            open_outline(a, format=formats[0], force_share=force_share) as first,
            open_outline(b, format=formats[1], force_share=force_share) as second,
        ):
            return ComparedTables(_Comparing(first, second, progress).run(), (first.size, second.size))
    except NeedsArrays:
        return None


class _Piece(NamedTuple):
    """Guest bytes that may differ, and where either side's lie: host offset (`NOWHERE` for zeros) and depth."""

    start: int
    length: int
    left: tuple[int, int]
    right: tuple[int, int]


class _Comparing:
    """One comparison. Threads take groups of pieces in turn; `doubt` is the lowest byte that is not known to be equal."""

    def __init__(self, a: Outline, b: Outline, progress: Callable[[int, int], None] | None):
        self.a, self.b, self._progress = a, b, progress
        self.end = self.doubt = max(a.size, b.size)
        self._own = _own_layers(a, b)
        self._files = [[layer.file.key for layer in side.layers] for side in (a, b)]
        self._lock = threading.Lock()
        self._buffers = threading.local()

    def run(self) -> int:
        """Returns the guest byte up to which both are equal."""
        share_out(self._open_groups(), self._compare, self.end)
        if self._progress is not None and self.doubt >= self.end:
            self._progress(self.end, self.end)
        return self.doubt

    def _open_groups(self) -> Iterator[list[_Piece]]:
        """Yields groups as long as they lie before every byte in doubt."""
        for group in _grouped(self._pieces()):
            if group[0].start >= self.doubt:
                return
            if self._progress is not None:
                self._progress(group[0].start, self.end)
            yield group

    def _compare(self, group: list[_Piece]) -> int:
        if not hasattr(self._buffers, "whole"):
            self._buffers.whole = bytearray(_READ_BYTES), bytearray(_READ_BYTES)
        length = sum(piece.length for piece in group)
        left, right = self._buffers.whole if length == _READ_BYTES else (bytearray(length), bytearray(length))
        if not self._equal(group, left, right):
            self._doubt_from(group[0].start)
        return length

    def _doubt_from(self, start: int) -> None:
        with self._lock:
            self.doubt = min(self.doubt, start)

    def _equal(self, group: list[_Piece], left: bytearray, right: bytearray) -> bool:
        try:
            self.a.read(((*piece.left, piece.length) for piece in group), memoryview(left))
            self.b.read(((*piece.right, piece.length) for piece in group), memoryview(right))
        except CowherdError:  # whoever takes over meets it again, and says so
            return False
        return left == right

    def _pieces(self) -> Iterator[_Piece]:
        """Yields what the tables leave open, in order, up to where they can't be read."""
        for start, end in windows(zip((self.a, self.b), self._own, strict=True), self.end):
            try:
                pieces = list(self._open_pieces(start, end))
            except (CowherdError, NeedsArrays):
                self._doubt_from(start)
                return
            yield from pieces

    def _open_pieces(self, start: int, end: int) -> Iterator[_Piece]:
        own = _cover(self.a, start, end, self._own[0]), _cover(self.b, start, end, self._own[1])
        for left, right in _side_by_side(*own):
            if left[4] == right[4] == BACKING:
                continue
            start, end = left[0], left[0] + left[1]
            pairs: Iterable[tuple[Row, Row]] = ((left, right),)
            if left[4] == BACKING:
                pairs = _side_by_side(self.a.rows(start, end, self._own[0]), [right])
            elif right[4] == BACKING:
                pairs = _side_by_side([left], self.b.rows(start, end, self._own[1]))
            for one, other in pairs:
                here, there = place_of(one), place_of(other)
                if not self._same_place(here, there):
                    yield _Piece(one[0], one[1], here, there)

    def _same_place(self, here: tuple[int, int], there: tuple[int, int]) -> bool:
        """Whether both are zeros, or one place in one file."""
        return here[0] == there[0] and (here[0] == NOWHERE or self._files[0][here[1]] == self._files[1][there[1]])


def _own_layers(a: Outline, b: Outline) -> tuple[int, int]:
    """Returns how many layers of each chain lie above those that both end in."""
    first, second = len(a.layers), len(b.layers)
    while first and second:
        one, other = a.layers[first - 1], b.layers[second - 1]
        if (one.file.key, one.format) != (other.file.key, other.format):
            break
        first, second = first - 1, second - 1
    return first, second


def _cover(side: Outline, start: int, end: int, own: int) -> list[Row]:
    """Returns what the top `own` layers hold of [start, end), zeros behind the disk's end."""
    inside = min(max(side.size, start), end)
    rows = side.rows(start, inside, 0, own) if inside > start else []
    return [*rows, (inside, end - inside, NOWHERE, 0, ZERO)] if end > inside else rows


def _side_by_side(a: list[Row], b: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Yields two covers of one range cut at each other's borders."""
    first = second = 0
    while first < len(a):
        left, right = a[first], b[second]
        end, other_end = left[0] + left[1], right[0] + right[1]
        start, stop = max(left[0], right[0]), min(end, other_end)
        yield (
            left if left[0] == start and end == stop else _cut(left, start, stop),
            right if right[0] == start and other_end == stop else _cut(right, start, stop),
        )
        first, second = first + (end == stop), second + (other_end == stop)


def _cut(row: Row, start: int, end: int) -> Row:
    host = row[2] if row[2] == NOWHERE else row[2] + start - row[0]
    return start, end - start, host, row[3], row[4]


def _grouped(pieces: Iterator[_Piece]) -> Iterator[list[_Piece]]:
    """Yields lists of pieces of `_READ_BYTES` together, cut for that where need be; the last one has the rest."""
    group: list[_Piece] = []
    room = _READ_BYTES
    for piece in pieces:
        while piece.length > room:
            group.append(piece._replace(length=room))
            yield group
            piece, group, room = _rest(piece, room), [], _READ_BYTES
        group.append(piece)
        room -= piece.length
    if group:
        yield group


def _rest(piece: _Piece, skipped: int) -> _Piece:
    """Returns a piece without its first bytes."""
    left, right = ((host if host == NOWHERE else host + skipped, depth) for host, depth in (piece.left, piece.right))
    return _Piece(piece.start + skipped, piece.length - skipped, left, right)
