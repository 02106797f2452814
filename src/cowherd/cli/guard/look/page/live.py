"""The page of a herd as it is now: made anew when the watch has seen something, while somebody looks at it."""

from __future__ import annotations

import contextvars
import json
import threading
import time
from typing import TYPE_CHECKING

from cowherd.cli.guard.look.page.document import page
from cowherd.errors import CowherdError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cowherd.herd.report.overview import Overview
    from cowherd.herd.watch.daemon import Daemon
    from cowherd.herd.watch.events import Event

OLDEST_SECONDS = 60.0
"""The age at which the page is made anew though nothing was seen: nobody notices writes to overlays, or what starts to run."""
_LOOKED_AT_SECONDS = 10.0
_SHORTEST_PAUSE = 2.0
_REST = 4
"""The pause after the page was made takes so many times as long as that, so that most of the time is the machine's own."""


class LivePage:
    """A page that a server asks for and that reporters of a watch tell of events. `look` examines the herd.

    The first page is made at once. Raises as `look`; later errors are told to who looks at the page.
    """

    def __init__(self, look: Callable[[], Overview]):
        self._look = look
        self._changed = threading.Condition()
        self._content, self._told = b"", b""
        self._version, self._bare = 0, ""
        self._stale = self._closing = False
        self._changes, self._asked, self._due = 0, 0.0, 0.0
        self._make()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._keep_fresh,), daemon=True)
        self._thread.start()

    def page(self) -> bytes:
        """Returns the page as it was made last."""
        self._note_reader()
        return self._content

    def version(self) -> bytes:
        """Returns as JSON the version of the page, when it was made or found unchanged, and why it could not be, or null."""
        self._note_reader()
        return self._told

    def _note_reader(self) -> None:
        with self._changed:
            self._asked = time.monotonic()
            self._changed.notify()

    def report(self, _event: Event) -> None:
        """Takes an event of the watch: the herd has changed."""
        with self._changed:
            self._stale = True
            self._changed.notify()

    def hear(self, daemon: Daemon) -> None:
        """Looks whether the watch was told of changes, as of a new overlay, which is no event."""
        if daemon.watch.changes != self._changes:
            self._changes = daemon.watch.changes
            with self._changed:
                self._stale = True
                self._changed.notify()

    def reopen(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Ends the making of pages; one that is being made is given up with the process."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def _keep_fresh(self) -> None:
        try:
            while self._wait():
                try:
                    self._make()
                except (CowherdError, OSError) as error:
                    self._tell(None, str(error))
        except BaseException:
            self._tell(None, "the program has failed, and does not look again")
            raise

    def _wait(self) -> bool:
        """Waits until the page has to be made anew; returns whether that is so, and not the end."""
        with self._changed:
            while not self._closing:
                left = self._seconds_left(time.monotonic())
                if left is not None and left <= 0:
                    self._stale = False
                    return True
                self._changed.wait(left)
        return False

    def _seconds_left(self, now: float) -> float | None:
        if now - self._asked > _LOOKED_AT_SECONDS:
            return None
        return self._due - now if self._stale else self._due + OLDEST_SECONDS - now

    def _make(self) -> None:
        began = time.monotonic()
        try:
            seen = self._look()
            version = self._version + 1
            content = page(seen, version)
            bare = content.replace(seen.made, "").replace(f"data-version={version}>", "")
            if bare != self._bare:
                self._content, self._version, self._bare = content.encode("utf-8"), version, bare
            self._tell(seen.made, None)
        finally:
            now = time.monotonic()
            self._due = now + max(_SHORTEST_PAUSE, _REST * (now - began))

    def _tell(self, made: str | None, problem: str | None) -> None:
        self._told = json.dumps({"version": self._version, "made": made, "problem": problem}).encode("ascii")
