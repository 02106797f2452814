"""Connections that break."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time


class Breaking:
    """Stands in front of a service, and breaks `breaks` connections, each after less than `most` bytes from the client.

    `passed` counts the client's bytes; `pace_bytes` is how many of them a second are let through, None for all.
    """

    def __init__(self, port: int, breaks: int, most: int, seed: int):
        self.target, self.left, self._most, self._random = port, breaks, most, random.Random(seed)
        self.passed = 0
        self.pace_bytes: float | None = None
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listening.accept()[0]
                threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        most = self._random.randrange(300, self._most) if self.left else 1 << 40
        with near, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.target)) as far:
            self._open.add(near)
            threading.Thread(target=self._answer, args=(far, near), daemon=True).start()
            while most > 0 and (part := near.recv(min(most, 1 << 14))):
                far.sendall(part)
                most -= len(part)
                self.passed += len(part)
                if self.pace_bytes:
                    time.sleep(len(part) / self.pace_bytes)
                if near not in self._open:
                    break
            self.left -= not most
            for one in (near, far):
                one.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _answer(far: socket.socket, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := far.recv(1 << 14):
                near.sendall(part)

    def cut(self) -> None:
        """Breaks the connections that are open; what the client has sent and was not passed on is lost."""
        self._open.clear()

    def close(self) -> None:
        self._listening.close()
