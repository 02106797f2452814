"""The content digest of an image of few tables, without numpy, whose import takes as long as reading 300 MiB.

It is what `cowherd.herd.records.digest` finds; here no digest of a single block is kept for longer than that takes.
"""

from __future__ import annotations

import struct

from cowherd.herd.records.block import BLOCK, DIGEST_BYTES
from cowherd.herd.records.content import BLOCKS_READ, ZERO_DIGEST, BlockHasher, content_digest
from cowherd.kinds import DATA, NOWHERE, Row
from cowherd.ops.workers import share_out
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cowherd.image.outline import Outline

_PIECES_IN_TASK = 32

_Place = tuple[int, int, int]
"""Host offset (`NOWHERE`: zeros), depth, length."""


class _Piece(NamedTuple):
    """Blocks to read at once, and where their bytes lie."""

    first: int
    blocks: int
    places: list[_Place]


def outlined_digest(outline: Outline, progress: Callable[[int, int], None] | None = None) -> bytes:
    """Reads the data of an open chain and returns its content digest. `progress(done, total)` counts bytes.

    Raises `NeedsArrays` for an image that only `digest_disk` reads, `HostFileError` where the host fails.
    """
    pieces = [piece for run in _runs(outline.all_rows(DATA)) for piece in _cut(*run)]
    tasks = [pieces[begin : begin + _PIECES_IN_TASK] for begin in range(0, len(pieces), _PIECES_IN_TASK)]
    results = [b""] * len(tasks)
    hasher = BlockHasher()

    def hash_task(number: int) -> int:
        found: list[bytes] = []
        for piece in tasks[number]:
            outline.read(piece.places, hasher.room(piece.blocks))
            found += hasher.digests(piece.blocks)
        results[number] = b"".join(found)
        return len(found) * BLOCK

    share_out(iter(range(len(tasks))), hash_task, sum(piece.blocks for piece in pieces) * BLOCK, progress)
    return _content_digest(outline.size, tasks, results)


def _runs(rows: list[Row]) -> Iterator[tuple[int, list[_Place]]]:
    """Yields (first block, places) of runs of blocks that hold data; the places fill whole blocks."""
    places: list[_Place] = []
    first = position = 0
    for start, length, host, depth, _ in rows:
        if places and start >= -(-position // BLOCK) * BLOCK:
            yield first, _filled(places, position)
            places = []
        if not places:
            first = start // BLOCK
            position = first * BLOCK
        if start > position:
            places.append((NOWHERE, 0, start - position))
        places.append((host, depth, length))
        position = start + length
    if places:
        yield first, _filled(places, position)


def _filled(places: list[_Place], end: int) -> list[_Place]:
    """Returns `places`, which end at guest byte `end`, with zeros up to the end of the block."""
    return [*places, (NOWHERE, 0, -end % BLOCK)] if end % BLOCK else places


def _cut(first: int, places: list[_Place]) -> Iterator[_Piece]:
    """Cuts a run into pieces."""
    left = sum(length for _, _, length in places)
    ahead = iter(places)
    host, depth, length = next(ahead)
    while left:
        room = size = min(left, BLOCKS_READ * BLOCK)
        taken: list[_Place] = []
        while room:
            if not length:
                host, depth, length = next(ahead)
            part = min(length, room)
            taken.append((host, depth, part))
            host, length, room = host if host == NOWHERE else host + part, length - part, room - part
        yield _Piece(first, size // BLOCK, taken)
        first, left = first + size // BLOCK, left - size


def _content_digest(size: int, tasks: list[list[_Piece]], results: list[bytes]) -> bytes:
    runs: list[int] = []
    kept: list[bytes] = []
    for task, found in zip(tasks, results, strict=True):
        if ZERO_DIGEST not in found:
            _extend(runs, ((piece.first, piece.first + piece.blocks) for piece in task))
            kept.append(found)
            continue
        blocks = (block for piece in task for block in range(piece.first, piece.first + piece.blocks))
        for block, begin in zip(blocks, range(0, len(found), DIGEST_BYTES), strict=True):
            digest = found[begin : begin + DIGEST_BYTES]
            if digest != ZERO_DIGEST:
                _extend(runs, [(block, block + 1)])
                kept.append(digest)
    return content_digest(size, len(runs) // 2, struct.pack(f"<{len(runs)}q", *runs), *kept)


def _extend(runs: list[int], more: Iterator[tuple[int, int]] | list[tuple[int, int]]) -> None:
    """Appends runs to a list of borders; what follows without a gap makes the last run longer."""
    for first, end in more:
        if runs and runs[-1] == first:
            runs[-1] = end
        else:
            runs += [first, end]
