"""Finds where two images begin to show different content.

If both chains end in the same files, these show the same to both: the comparison only looks at what the images above them hold.
As many threads as there are processors read and compare the bytes that are not known to be equal.
"""

from __future__ import annotations

import _thread  # not `threading`, which takes as long to load as two small images to compare

from cowherd.errors import CowherdError
from cowherd.image.reading import Reading, windows
from cowherd.image.rows import Clipping, portions, side_by_side
from cowherd.kinds import BACKING, COMPRESSED, DATA, NOWHERE, ZERO
from cowherd.ops.compare.comparison import ReadFailed
from cowherd.ops.workers import share_out
from cowherd.sizes import SECTOR
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cowherd.image.rows import Ranges
    from cowherd.kinds import Row

_READ_BYTES = 1 << 20
"""Bytes read from each side at once: so few that they stay in the processor's cache until they are compared."""


def first_difference(a: Reading, b: Reading, end: int, progress: Callable[[int, int], None] | None = None) -> int | None:
    """Returns the guest offset of the first sector before `end` that differs, as QEMU reports it; past its end a disk is zeros.

    `progress` is called with rising (bytes done, bytes in all). Raises `ReadFailed`, and what reading tables raises, unless a
    difference comes before that.
    """
    found = _Comparing(a, b, end, progress).run()
    if found is None:
        return None
    if found.error is not None:
        raise found.error
    return _from_border(a, b, found.offset)


class _Group(NamedTuple):
    """Guest bytes that may differ, and the rows of both sides that have them."""

    ranges: Ranges
    left: list[Row]
    right: list[Row]


class _Found(NamedTuple):
    """The guest byte at which two disks differ, or from which on one of them can't be read; then `error` says why."""

    offset: int
    error: CowherdError | None = None


class _Comparing:
    """One comparison. Threads take groups in turn; of all that they find, the lowest byte counts."""

    def __init__(self, a: Reading, b: Reading, end: int, progress: Callable[[int, int], None] | None):
        self.a, self.b, self._end, self._progress = a, b, end, progress
        self._found: _Found | None = None
        self._own = _own_layers(a, b)
        self._files = [[layer.data.key for layer in side.layers] for side in (a, b)]
        self._lock = _thread.allocate_lock()
        self._buffers: dict[int, tuple[bytearray, bytearray]] = {}  # two for each thread

    def run(self) -> _Found | None:
        """Returns the first finding, None if both are equal."""
        share_out(self._open_groups(), self._compare, self._end)
        if self._progress is not None and self._found is None:
            self._progress(self._end, self._end)
        return self._found

    def _open_groups(self) -> Iterator[_Group]:
        """Yields groups as long as they lie before every finding."""
        for group in self._groups():
            start = group.ranges[0][0]
            if self._found is not None and start >= self._found.offset:
                return
            if self._progress is not None:
                self._progress(start, self._end)
            yield group

    def _groups(self) -> Iterator[_Group]:
        """Yields groups of the bytes that the tables leave open, in order, up to where the tables can't be read."""
        for start, end in windows(zip((self.a, self.b), self._own, strict=True), self._end):
            try:
                pairs = list(self._open_pairs(start, end))
            except CowherdError as error:
                self._find(_Found(start, error))
                return
            left, right = Clipping([one for one, _ in pairs]), Clipping([other for _, other in pairs])
            for ranges in portions(((row[0], row[0] + row[1]) for row, _ in pairs), _READ_BYTES):
                yield _Group(ranges, left.inside(ranges), right.inside(ranges))

    def _open_pairs(self, start: int, end: int) -> Iterator[tuple[Row, Row]]:
        """Yields pairs of rows that cover the same bytes of both sides and must be read."""
        pairs = list(side_by_side(_cover(self.a, start, end, self._own[0]), _cover(self.b, start, end, self._own[1])))
        below = _Below(self.a, self._own[0], [right for left, right in pairs if left[4] == BACKING and right[4] != BACKING])
        other_below = _Below(self.b, self._own[1], [left for left, right in pairs if right[4] == BACKING and left[4] != BACKING])
        for left, right in pairs:
            if left[4] == right[4]:
                if left[4] != BACKING and not self._is_same(left, right):
                    yield left, right
                continue
            lefts = below.rows(right) if left[4] == BACKING else [left]
            rights = other_below.rows(left) if right[4] == BACKING else [right]
            yield from (pair for pair in side_by_side(lefts, rights) if not self._is_same(*pair))

    def _is_same(self, left: Row, right: Row) -> bool:
        """Whether both are zeros, or one place in one file.

        A file may be open in two formats; only one of them has compressed clusters.
        """
        if left[4] not in (DATA, COMPRESSED):
            return right[4] not in (DATA, COMPRESSED)
        return left[4] == right[4] and left[2] == right[2] and self._files[0][left[3]] == self._files[1][right[3]]

    def _compare(self, group: _Group) -> int:
        """Reads and compares a group; returns its size."""
        length = sum(end - start for start, end in group.ranges)
        left, right = self._buffers_of(length)
        try:
            _read(self.a, group.left, left)
            _read(self.b, group.right, right)
        except ReadFailed as error:
            self._find(_Found(error.offset, error))
        else:
            if left != right:
                self._find(_Found(_guest_offset(group.ranges, _first_unequal(left, right))))
        return length

    def _buffers_of(self, length: int) -> tuple[bytearray, bytearray]:
        """Returns a buffer for each side; those of a whole group are kept for the thread's next one."""
        if length < _READ_BYTES:
            return bytearray(length), bytearray(length)
        thread = _thread.get_ident()
        if thread not in self._buffers:
            self._buffers[thread] = bytearray(length), bytearray(length)
        return self._buffers[thread]

    def _find(self, found: _Found) -> None:
        with self._lock:
            if self._found is None or found.offset < self._found.offset:
                self._found = found


class _Below:
    """What the layers from depth `first` on hold of the bytes of `wanted` rows. Callers ask for these rows in order."""

    def __init__(self, side: Reading, first: int, wanted: list[Row]):
        # One call looks up all rows: arrays cost the same for many rows as for one.
        rows = side.rows(wanted[0][0], wanted[-1][0] + wanted[-1][1], first) if wanted else []
        self._clipping = Clipping(rows)

    def rows(self, wanted: Row) -> list[Row]:
        return self._clipping.inside([(wanted[0], wanted[0] + wanted[1])])


def _own_layers(a: Reading, b: Reading) -> tuple[int, int]:
    """Returns how many layers of each chain lie above the layers that both chains end in."""
    first, second = len(a.layers), len(b.layers)
    while first and second:
        one, other = a.layers[first - 1], b.layers[second - 1]
        if (one.file.key, one.format) != (other.file.key, other.format):
            break
        first, second = first - 1, second - 1
    return first, second


def _cover(side: Reading, start: int, end: int, own: int | None = None) -> list[Row]:
    """Returns what the top `own` layers hold of [start, end), zeros past the disk's end."""
    inside = min(max(side.size, start), end)
    rows = side.rows(start, inside, 0, own) if inside > start else []
    return [*rows, (inside, end - inside, NOWHERE, 0, ZERO)] if end > inside else rows


def _read(side: Reading, rows: list[Row], buffer: bytearray) -> None:
    try:
        side.read(rows, memoryview(buffer))
    except CowherdError as error:
        raise ReadFailed(side.name, rows[0][0], error) from error


def _first_unequal(a: bytearray, b: bytearray) -> int:
    """Returns the first byte at which two buffers differ; they must differ somewhere."""
    low, high = 0, len(a)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if a[low:middle] != b[low:middle] else (middle, high)
    return low


def _guest_offset(ranges: Ranges, position: int) -> int:
    """Returns the guest offset of byte `position` of all `ranges` joined."""
    for start, end in ranges:
        if position < end - start:
            return start + position
        position -= end - start
    raise AssertionError("the ranges end before that byte")


def _from_border(a: Reading, b: Reading, offset: int) -> int:
    """Returns the offset at which QEMU says that two disks differ, if byte `offset` is the first that differs.

    QEMU counts sectors from the start of the last run. A run starts inside a sector where a raw file ends inside that sector.
    """
    sector = offset // SECTOR * SECTOR
    return max(row[0] for side in (a, b) for row in _cover(side, sector, sector + SECTOR) if row[0] <= offset)
