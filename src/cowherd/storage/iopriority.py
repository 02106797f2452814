"""Lets a thread read only when nobody else does (ioprio_set(2)), for which neither Python nor glibc has a function."""

from __future__ import annotations

import ctypes
import platform

_SYSTEM_CALLS = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
_WHO_PROCESS, _IDLE, _CLASS_SHIFT = 1, 3, 13


def be_idle() -> bool:
    """Gives this thread, and those that it starts, the idle class; returns whether it has worked.

    The kernel's schedulers bfq and mq-deadline honour it, "none" does not.
    """
    number = _SYSTEM_CALLS.get(platform.machine())
    if number is None:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(ctypes.c_long(number), _WHO_PROCESS, 0, _IDLE << _CLASS_SHIFT)) == 0
