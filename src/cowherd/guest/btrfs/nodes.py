"""The trees of a btrfs: their blocks, each compared with what its pointer says about it.

A pointer carries the generation and the first key of the block that it leads to, and the block carries its own address, level
and checksum. So a block that another history of the file system wrote can't pass for the one that the pointer means.
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
_MOST_VISITS = 4 << 20  # blocks, again for each snapshot that shares them: a bound for the time that crafted trees can take


@dataclass(frozen=True)
class Root:
    """Where a tree begins: the address of its first block, and the level and generation that this block must have."""

    tree: int
    address: int
    level: int
    generation: int


@dataclass(frozen=True)
class Gap:
    """Keys from `low` on and before `high` for which a tree has no readable block, and why."""

    low: Key
    high: Key
    problem: str


@dataclass(eq=False)
class Leaf:
    """A block with items: an array of their keys and places, and the bytes of the block."""

    items: NDArray[np.void]
    data: bytes

    def of_types(self, *types: int) -> Iterator[tuple[int, int, int, bytes]]:
        """Yields (object, type, offset, body) of the items of these types."""
        chosen = self.items[np.isin(self.items["type"], types)]
        # An item's place is counted from the end of the header, not from the begin of the block.
        for number, kind, offset, at, size in chosen.tolist():
            yield number, kind, offset, self.data[_HEADER.size + at : _HEADER.size + at + size]


@dataclass
class Tree:
    """A tree, and the gaps that walking it has found."""

    root: Root
    gaps: list[Gap] = field(default_factory=list)

    def gap_in(self, low: Key, high: Key) -> Gap | None:
        """Returns the first gap that holds any key from `low` to `high` (both included), None if there is none."""
        return next((gap for gap in self.gaps if gap.low <= high and low < gap.high), None)


class Trees:
    """Reads trees. `blocks` lists the addresses reached, by tree and level; `copies` says which copy of a block was read."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.blocks: dict[tuple[int, int], list[int]] = defaultdict(list)
        self.copies: dict[int, int] = {}
        self._known: dict[int, tuple[int, int]] = {}
        self._visits = 0

    def walk(self, tree: Tree) -> Iterator[Leaf]:
        """Yields the leaves of a tree in order. Adds a gap to the tree for each block that can't be read."""
        root, seen = tree.root, set[int]()
        pending = [(root.address, root.generation, root.level, FIRST, LAST)]
        while pending:
            address, generation, level, low, high = pending.pop()
            try:
                # A block twice in one tree is damage, and would let a loop of pointers go on for ever.
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
        """Returns a block and its items or pointers. Raises `Malformed` if no copy is the block that its pointer means."""
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
        """Returns the first copy of a block that agrees with its pointer, as the kernel chooses it."""
        layout, problem = self.layout, ""
        chunk = layout.chunk_at(address, layout.node)
        # Snapshots share blocks; a block that was checked for one pointer need not be summed again for an equal one.
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
    """Returns the items or pointers of a block. Raises `Malformed` if they make no sense."""
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
