"""The trees of a btrfs: their blocks, each held against what the block that points to it says of it.

A pointer carries the generation and the first key of the block that it leads to, and the block carries its own address, level
and checksum. A block that was written by another history of the file system can't pass for the one that is meant.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cowherd.guest.btrfs.layout import Layout
from cowherd.guest.source import Malformed

Key = tuple[int, int, int]
"""Object, type, offset: the order of everything in a tree."""

FIRST, LAST = (0, 0, 0), ((1 << 64) - 1, 255, (1 << 64) - 1)
_HEADER = struct.Struct("<32s16sQQ16sQQIB")
_ITEM = np.dtype([("object", "<u8"), ("type", "u1"), ("offset", "<u8"), ("at", "<u4"), ("size", "<u4")])
_POINTER = np.dtype([("object", "<u8"), ("type", "u1"), ("offset", "<u8"), ("block", "<u8"), ("generation", "<u8")])
_MOST_VISITS = 4 << 20


@dataclass(frozen=True)
class Root:
    """Where a tree begins: the address of its first block, and what that must say of itself."""

    tree: int
    address: int
    level: int
    generation: int


@dataclass(frozen=True)
class Gap:
    """Keys from `low` on and before `high` that a tree has no readable block for, and why."""

    low: Key
    high: Key
    problem: str


@dataclass(eq=False)
class Leaf:
    """A block with items: an array of keys and places, and the bytes that the places refer to."""

    items: NDArray[np.void]
    data: bytes

    def of_types(self, *types: int) -> Iterator[tuple[int, int, int, bytes]]:
        """Yields (object, type, offset, body) of the items of these types."""
        chosen = self.items[np.isin(self.items["type"], types)]
        for number, kind, offset, at, size in chosen.tolist():
            yield number, kind, offset, self.data[_HEADER.size + at : _HEADER.size + at + size]


@dataclass
class Tree:
    """What was met in walking one tree: its gaps."""

    root: Root
    gaps: list[Gap] = field(default_factory=list)

    def gap_in(self, low: Key, high: Key) -> Gap | None:
        """Returns a gap that some key from `low` on, `high` included, falls into."""
        return next((gap for gap in self.gaps if gap.low <= high and low < gap.high), None)


class Trees:
    """Reads trees. `blocks` lists by tree and level the addresses that were reached, `copies` which copy of a block was read."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.blocks: dict[tuple[int, int], list[int]] = defaultdict(list)
        self.copies: dict[int, int] = {}
        self._known: dict[int, tuple[int, int]] = {}
        self._visits = 0

    def walk(self, tree: Tree) -> Iterator[Leaf]:
        """Yields the leaves of a tree in order. What can't be read is added to its gaps."""
        root, seen = tree.root, set[int]()
        pending = [(root.address, root.generation, root.level, FIRST, LAST)]
        while pending:
            address, generation, level, low, high = pending.pop()
            try:
                if address in seen:
                    raise Malformed("it is there twice")
                seen.add(address)
                data, keys = self._block(root.tree, address, generation, level, low if address != root.address else None)
            except Malformed as error:
                tree.gaps.append(Gap(low, high, f"the block at address {address}: {error}"))
                continue
            if level == 0:
                yield Leaf(keys, data)
                continue
            bounds = [*list(zip(*(keys[name].tolist() for name in ("object", "type", "offset")), strict=True)), high]
            for index in range(len(keys) - 1, -1, -1):
                block, born = int(keys["block"][index]), int(keys["generation"][index])
                pending.append((block, born, level - 1, bounds[index], bounds[index + 1]))

    def problem_of(self, root: Root) -> str | None:
        """Returns why the first block of a tree can't be read, None if it can."""
        try:
            self._block(root.tree, root.address, root.generation, root.level, None)
        except Malformed as error:
            return f"the block at address {root.address}: {error}"
        return None

    def _block(self, tree: int, address: int, generation: int, level: int, first: Key | None) -> tuple[bytes, NDArray[np.void]]:
        """Returns a block and its items or pointers. Raises `Malformed` where no copy is what is meant."""
        self._visits += 1
        if self._visits > _MOST_VISITS:
            raise Malformed("there are too many blocks to read")
        data = self._sound_copy(address, generation, level)
        keys = _keys(data, level)
        if first is not None and (not len(keys) or keys[0].item()[:3] != first):
            raise Malformed("it does not begin with the key that leads to it")
        if address not in self._known:
            self._known[address] = generation, level
            self.blocks[tree, level].append(address)
        return data, keys

    def _sound_copy(self, address: int, generation: int, level: int) -> bytes:
        """Returns the first copy of a block that is what is meant, as the kernel chooses it."""
        layout, problem = self.layout, ""
        chunk = layout.chunk_at(address, layout.node)
        if address in self._known and self._known[address] == (generation, level):
            return layout.volume.read(chunk.copies[self.copies[address]] + address - chunk.start, layout.node)
        for copy, start in enumerate(chunk.copies):
            data = layout.volume.read(start + address - chunk.start, layout.node)
            found = self._problem(data, address, generation, level)
            if not found:
                self.copies[address] = copy
                return data
            problem = problem or found
        raise Malformed(problem)

    def _problem(self, data: bytes, address: int, generation: int, level: int) -> str:
        layout = self.layout
        _, uuid, at, _, _, born, _, _, height = _HEADER.unpack_from(data)
        if layout.sum_of(data[32:]) != data[: layout.sum_bytes]:
            return "its checksum is wrong"
        if uuid != layout.uuid or at != address:
            return "it is another file system's, or another block"
        if born != generation:
            return f"it is of generation {born} instead of {generation}"
        return "" if height == level else f"it is of level {height} instead of {level}"


def _keys(data: bytes, level: int) -> NDArray[np.void]:
    """Returns the items or pointers of a block. Raises `Malformed` where they make no sense."""
    count, kind = _HEADER.unpack_from(data)[7], _POINTER if level else _ITEM
    if count > (len(data) - _HEADER.size) // kind.itemsize or (level and not count):
        raise Malformed("it counts more entries than fit")
    keys = np.frombuffer(data, kind, count, _HEADER.size)
    one, other = keys[:-1], keys[1:]
    later = one["offset"] < other["offset"]
    for name in ("type", "object"):
        later = (one[name] < other[name]) | ((one[name] == other[name]) & later)
    if not later.all():
        raise Malformed("its keys are not in order")
    if not level and (keys["at"].astype(np.int64) + keys["size"] > len(data) - _HEADER.size).any():
        raise Malformed("an item lies outside of it")
    return keys
