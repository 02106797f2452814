"""A directory tree as values: files with their bytes and times, and the names that lead to them.

A tree can be laid out in a directory again and again. Each file is then another inode with other times than it was; what asks
for these (`os.stat` and its kin) is told the old ones until the file is changed, so that seals know their files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = 0


@dataclass
class Node:
    """A file, or a directory where `data` is None. `number` is the inode's number as cowherd knows it."""

    data: bytearray | None
    mode: int
    number: int
    times: tuple[int, int] = (0, 0)
    """mtime and ctime, in nanoseconds."""


@dataclass
class World:
    """Nodes by an id of their own, and names: (the directory's id, name) -> id. `ROOT` is the id of the directory itself."""

    nodes: dict[int, Node] = field(default_factory=dict)
    names: dict[tuple[int, str], int] = field(default_factory=dict)

    @classmethod
    def capture(cls, root: Path) -> World:
        """Reads the tree under `root`; hard links are one node with several names."""
        world, ids = cls(), {}
        for place in (root, *sorted(root.rglob("*"))):
            info = os.lstat(place)
            key = (info.st_dev, info.st_ino)
            if key not in ids:
                ids[key] = len(ids)
                data = None if stat.S_ISDIR(info.st_mode) else bytearray(place.read_bytes())
                world.nodes[ids[key]] = Node(data, stat.S_IMODE(info.st_mode), info.st_ino, (info.st_mtime_ns, info.st_ctime_ns))
            if place != root:
                parent = os.lstat(place.parent)
                world.names[ids[parent.st_dev, parent.st_ino], place.name] = ids[key]
        return world

    def copied(self) -> World:
        """A tree that can be changed by itself; the bytes of files are shared until `own` is asked for them."""
        return World(dict(self.nodes), dict(self.names))

    def places(self, root: Path) -> dict[Path, int]:
        """Every place that can be reached from the root, directories before what is in them."""
        found, todo = {}, [(ROOT, root)]
        inside: dict[int, list[tuple[str, int]]] = {}
        for (directory, name), node in self.names.items():
            inside.setdefault(directory, []).append((name, node))
        while todo:
            directory, path = todo.pop()
            for name, node in inside.get(directory, ()):
                found[path / name] = node
                if self.nodes[node].data is None:
                    todo.append((node, path / name))
        return found

    def lay_out(self, root: Path) -> Identities:
        """Makes the tree under `root` this one, and returns what its files are to be known as."""
        clear(root)
        made: dict[int, Path] = {}
        for path, number in self.places(root).items():
            node = self.nodes[number]
            if number in made:
                os.link(made[number], path)
            elif node.data is None:
                path.mkdir()
            else:
                path.write_bytes(node.data.rstrip(b"\0"))
                os.truncate(path, len(node.data))
            made[number] = path
            os.chmod(path, node.mode)
        return Identities({path: self.nodes[number] for number, path in made.items() if self.nodes[number].data is not None})


def clear(root: Path) -> None:
    """Empties a directory."""
    for place in root.iterdir():
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()


class Identities:
    """What files that were laid out are known as, until something changes them."""

    def __init__(self, files: dict[Path, Node]):
        self._known: dict[tuple[int, int], tuple[Node, tuple[int, int]]] = {}
        for path, node in files.items():
            info = os.lstat(path)
            self._known[info.st_dev, info.st_ino] = node, (info.st_mtime_ns, info.st_ctime_ns)

    @contextlib.contextmanager
    def believed(self) -> Iterator[None]:
        """Makes os.stat, os.lstat, os.fstat and what os.scandir yields tell it while the block runs."""
        saved = os.stat, os.lstat, os.fstat
        scandir = os.scandir

        def telling(call: Any) -> Any:
            return lambda *arguments, **options: self.told(call(*arguments, **options))

        os.stat, os.lstat, os.fstat = map(telling, saved)
        os.scandir = lambda *place: Listing(scandir(*place), self.told)
        try:
            yield
        finally:
            os.stat, os.lstat, os.fstat = saved
            os.scandir = scandir

    def told(self, info: os.stat_result) -> os.stat_result:
        """What is told of a file of which the kernel says `info`."""
        known = self._known.get((info.st_dev, info.st_ino))
        if known is None:
            return info
        node, laid_out = known
        facts = {name: getattr(info, name) for name in dir(info) if name.startswith("st_")}
        mtime = node.times[0] if info.st_mtime_ns == laid_out[0] else info.st_mtime_ns
        ctime = node.times[1] if info.st_ctime_ns == laid_out[1] else info.st_ctime_ns
        facts |= {"st_mtime_ns": mtime, "st_ctime_ns": ctime, "st_mtime": mtime / 1e9, "st_ctime": ctime / 1e9}
        return os.stat_result((info[0], node.number, *info[2:]), facts)


class Listing:
    """What os.scandir returns, with entries that tell what `told` makes of their files."""

    def __init__(self, entries: Any, told: Any):
        self._entries, self._told = entries, told

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries.close()

    def __iter__(self) -> Iterator[Entry]:
        return (Entry(entry, self._told) for entry in self._entries)

    def __next__(self) -> Entry:
        return Entry(next(self._entries), self._told)


class Entry:
    """A directory's entry, as os.scandir yields it."""

    def __init__(self, entry: os.DirEntry[str], told: Any):
        self._entry, self._told = entry, told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entry, name)

    def __fspath__(self) -> str:
        return self._entry.path

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return self._told(self._entry.stat(follow_symlinks=follow_symlinks))

    def inode(self) -> int:
        return self.stat(follow_symlinks=False).st_ino
