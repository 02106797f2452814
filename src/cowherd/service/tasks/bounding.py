"""A bound for how long a connection may be used as a whole: http.client bounds single waits only, and bytes may drip for ever."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def cut_off_after(connection: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """Ends a connection that the block still uses after so many seconds: who reads from it finds its end.

    Gives an event that is set then, since an answer may end with its connection.
    """
    over = threading.Event()

    def cut_off() -> None:
        over.set()
        with contextlib.suppress(OSError):  # it has ended by itself
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, cut_off)
    timer.daemon = True  # a process that ends does not wait for it
    timer.start()
    try:
        yield over
    finally:
        timer.cancel()
