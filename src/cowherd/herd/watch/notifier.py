"""The watch's source of notices: fanotify where it is permitted and the file system supports it, inotify for the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cowherd.distribution import how_to_install
from cowherd.errors import CowherdError
from cowherd.herd.lineage.scan import Key
from cowherd.herd.watch.stock import Stock
from cowherd.live.fanotify import Fanotify
from cowherd.live.inotify import Inotify
from cowherd.live.notices import Notice, Source
from cowherd.text import printable


class CantWatch(CowherdError):
    """The kernel can't notify this process of changes. Attribute: `problem`."""

    def __init__(self, problem: str):
        self.problem = problem

    def __str__(self) -> str:
        return f"no way to notice changes: {self.problem}"


class Notifier:
    """Watches the files and directories of a stock. `why_not_fanotify` says why the kernel names no processes, None if it does.

    `unwatched` maps files that can't be watched to the reason. Raises `CantWatch` if there is neither fanotify nor inotify.
    """

    def __init__(self, *, fanotify: bool = True):
        self._fanotify: Fanotify | None = None
        self._inotify: Inotify | None = None
        self._marked: dict[Path, Key] = {}
        self.why_not_fanotify: str | None = "it was not asked for"
        self.unwatched: dict[Path, str] = {}
        if fanotify:
            try:
                self._fanotify, self.why_not_fanotify = Fanotify(), None
            except OSError as error:
                self.why_not_fanotify = error.strerror or str(error)
        if self._fanotify is None:
            self._inotify = _inotify()

    def sources(self) -> Iterator[Source]:
        """Yields the open sources of notices, for a selector to wait on."""
        if self._fanotify:
            yield self._fanotify
        if self._inotify:
            yield self._inotify

    def watch(self, stock: Stock) -> set[Path]:
        """Watches all files and directories of `stock` from now on; returns those that were not watched before."""
        self.unwatched.clear()
        added = set()
        wanted = dict.fromkeys(stock.by_file, False) | dict.fromkeys(stock.directories, True)
        for path, is_directory in wanted.items():
            try:
                info = os.stat(path)
                if self._marked.get(path) != (info.st_dev, info.st_ino):
                    self._mark(path, is_directory)
                    self._marked[path] = info.st_dev, info.st_ino
                    added.add(path)
            except FileNotFoundError:
                continue  # it has gone since the scan; the watch on its directory reports that
            except OSError as error:
                self.unwatched[path] = error.strerror or str(error)
        self._marked = {path: key for path, key in self._marked.items() if path in wanted}
        return added

    def _mark(self, path: Path, is_directory: bool) -> None:
        if self._fanotify:
            try:
                self._add(self._fanotify, path, is_directory)
                return
            except OSError as error:
                self.why_not_fanotify = f"{printable(path)}: {error.strerror or error}"
        if self._inotify is None:
            self._inotify = _inotify()
        self._add(self._inotify, path, is_directory)

    @staticmethod
    def _add(source: Source, path: Path, is_directory: bool) -> None:
        if is_directory:
            source.add_directory(path)
        else:
            source.add_file(path)

    def read(self) -> list[Notice]:
        """Returns the notices that have come, without waiting."""
        return [notice for source in self.sources() for notice in source.read()]

    def close(self) -> None:
        """Ends all watches."""
        for source in self.sources():
            source.close()


def _inotify() -> Inotify:
    try:
        return Inotify()
    except ModuleNotFoundError as error:
        remedy = f"{how_to_install('watch')}; or run it as root, where fanotify does without"
        raise CantWatch(f"what is watched without fanotify needs inotify_simple: {remedy}") from error
    except OSError as error:
        raise CantWatch(f"inotify: {error.strerror or error}") from error
