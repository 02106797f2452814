"""Tells systemd the state of a service of type notify (sd_notify(3)): ready, alive, its status, stopping."""

from __future__ import annotations

import os
import socket


class Systemd:
    """Sends states to the socket that systemd names in the environment; without one it sends nothing.

    `watchdog_seconds` is the interval between signs of life, half of what systemd waits; None if systemd expects none.
    """

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        meant = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds = int(microseconds) / 2e6 if microseconds.isdecimal() and int(microseconds) and meant else None

    def tell(self, *states: str) -> None:
        """Sends states such as "READY=1". A state that can't be sent is lost, as sd_notify(3) advises."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto("\n".join(states).encode(), self._address)
        except OSError:
            return
