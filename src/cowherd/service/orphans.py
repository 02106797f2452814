"""Processes of the service that end with the one that started them, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent, the process `parent`, dies: an orphan would go on as if it were wanted.

    A worker would keep the service's address, and a conversion would fill its disk. Source: prctl(2).
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it was asked for
        os._exit(1)
