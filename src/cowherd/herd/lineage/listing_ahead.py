"""A process that looks through directories while another is busy with what was found there."""

from __future__ import annotations

import contextlib
import marshal
from multiprocessing import get_context
from threading import active_count

from cowherd.herd.lineage.children import Lifeline, begin_child, forking
from cowherd.herd.lineage.listing import Listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from cowherd.herd.lineage.listing import PendingDirectories


def may_fork() -> bool:
    """Returns whether this process may go on as two: with threads of its own it would copy the locks that these hold."""
    return active_count() == 1


class ListingAhead:
    """Lists pending directories in another process, a few more than were asked for. A context manager."""

    def __init__(self, pending: PendingDirectories):
        """Begins with what is pending now; nothing else may run in this process."""
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
        self._process.terminate()  # processes that were forked since hold its pipe, so it could wait for ever
        self._process.join()
        self._lifeline.let_go()

    def look(self) -> Listed | None:
        """Does what `PendingDirectories.look` does."""
        try:
            return _unpacked(self._connection.recv_bytes())
        except (EOFError, OSError):  # somebody killed the process, perhaps in the middle of a message
            return self._pending.look()


def _look_ahead(pending: PendingDirectories, connection: Connection, lifeline: Lifeline) -> None:
    begin_child(lifeline)
    with contextlib.suppress(BrokenPipeError):  # nobody wants to know any more
        while pending.paths:
            listed = pending.look()
            connection.send_bytes(_packed(listed))
            pending.go_on(listed)


def _packed(listed: Listed | None) -> bytes:
    """Plain values are all that marshal takes, and it takes half the time of pickle."""
    return marshal.dumps(tuple(listed) if listed else None)


def _unpacked(data: bytes) -> Listed | None:
    values = marshal.loads(data)
    return Listed(*values) if values else None
