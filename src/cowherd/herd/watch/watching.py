"""Watching from Python: each event goes to a function of the caller."""

from __future__ import annotations

import os
import queue
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.herd.watch.daemon import Daemon, Settings
from cowherd.paths import path_names
from cowherd.sizes import size_in_bytes
from cowherd.storage.presence import require_directories

if TYPE_CHECKING:
    from collections.abc import Callable

    from cowherd.herd.watch.events import Event
    from cowherd.paths import PathNames
    from cowherd.sizes import Size


def watch(
    directories: PathNames,
    on_event: Callable[[Event], bool | None],
    *,
    rate: Size | None = "50M",
    settle: float = 2.0,
    every: float | None = 86400.0,
    fanotify: bool = True,
) -> None:
    """Watches the sealed images under `directories`, and calls `on_event` with each event, as `cowherd watch` reports it.

    It ends when `on_event` returns False, or SIGTERM or SIGINT comes. Signals reach Python's main thread only, so it must run
    there. `on_event` must return soon: nothing is noticed meanwhile. `rate` limits reading, in bytes per second (None: no limit).
    `settle` seconds of quiet end an incident, and a base is read again after `every` seconds (None: never). `fanotify`: name the
    writers, where the caller is root.
    Raises `CantWatch`, `WatchFailed`, `HostFileError` for what is no directory, and what `on_event` raises.
    """
    names = path_names(directories)
    require_directories(names)
    places = tuple(Path(os.path.realpath(name)) for name in names)
    settings = Settings(places, None if rate is None else size_in_bytes(rate), settle, every, fanotify=fanotify)
    caller = _Caller(on_event)
    daemon = Daemon(settings, [caller], queue.SimpleQueue(), lambda daemon: None)
    caller.end = daemon.stop
    daemon.run()


class _Caller:
    """Hands events to the caller's function, and ends the watch if that wants no more."""

    def __init__(self, on_event: Callable[[Event], bool | None]):
        self._on_event = on_event
        self.end: Callable[[], None] = lambda: None

    def report(self, event: Event) -> None:
        """Hands over one event."""
        if self._on_event(event) is False:
            self.end()

    def reopen(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""
