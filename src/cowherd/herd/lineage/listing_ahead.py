"""A child process that lists directories ahead, while this one works on those that it has."""

from __future__ import annotations

import contextlib
import marshal
from multiprocessing import get_context
from threading import active_count
from typing import TYPE_CHECKING

from cowherd.herd.lineage.children import Lifeline, begin_child, forking
from cowherd.herd.lineage.listing import Listed

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from cowherd.herd.lineage.listing import PendingDirectories


def may_fork() -> bool:
    """Returns whether this process may fork: a process with several threads would copy locks that the others hold."""
    return active_count() == 1


class ListingAhead:
    """Lists pending directories in another process, ahead of the calls of `look`. A context manager."""

    def __init__(self, pending: PendingDirectories):
        """Starts the process with the directories that are pending now; no other thread may run (see `may_fork`)."""
        self._pending = pending
        context = get_context("fork")
        self._connection, theirs = context.Pipe(duplex=False)
        self._lifeline = Lifeline()
        self._process = context.Process(target=_look_ahead, args=(pending, theirs, self._lifeline), daemon=True)
        with forking():
            self._process.start()
        theirs.close()

    def __enter__(self) -> ListingAhead:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()
        self._process.terminate()  # it might block for ever on its pipe, which processes that were forked later hold open
        self._process.join()
        self._lifeline.let_go()

    def look(self) -> Listed | None:
        """Returns what `PendingDirectories.look` would."""
        try:
            return _unpacked(self._connection.recv_bytes())
        except (EOFError, OSError):  # somebody killed the process, perhaps in the middle of a message
            return self._pending.look()


def _look_ahead(pending: PendingDirectories, connection: Connection, lifeline: Lifeline) -> None:
    begin_child(lifeline)
    with contextlib.suppress(BrokenPipeError):  # the parent has closed its end: it needs no more
        while pending.paths:
            listed = pending.look()
            connection.send_bytes(_packed(listed))
            pending.go_on(listed)


def _packed(listed: Listed | None) -> bytes:
    """Packs plain values with marshal, which takes half the time of pickle and holds nothing else."""
    return marshal.dumps(tuple(listed) if listed else None)


def _unpacked(data: bytes) -> Listed | None:
    values = marshal.loads(data)
    return Listed(*values) if values else None
