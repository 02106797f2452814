"""What systemd is told of a service of type notify (sd_notify(3)): it is ready, it is alive, how it is, it ends."""

from __future__ import annotations

import os
import socket


class Systemd:
    """Sends states to the socket that systemd names in the environment; without one nothing is sent.

    `watchdog_seconds` is how often a sign of life is due, half of what systemd waits; None if it doesn't wait for any.
    """

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        meant = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds = int(microseconds) / 2e6 if microseconds.isdecimal() and int(microseconds) and meant else None

    def tell(self, *states: str) -> None:
        """Sends states such as "READY=1"; one that can't be sent is lost, as sd_notify(3) advises."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto("\n".join(states).encode(), self._address)
        except OSError:
            return
