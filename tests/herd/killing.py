"""Ending a process at every point at which it changes something on the host: names, modes and bytes."""

from __future__ import annotations

import os
from collections.abc import Callable

from cowherd.storage.copying import FileRange
from cowherd.storage.hostfile import HostFile
from tests.herd.qemu_herd import KILLED

_CHANGES = ("link", "unlink", "rename", "mkdir", "rmdir", "fchmod")


def killed_before_change(number: int, work: Callable[[], object]) -> bool:
    """Does `work` in a process of its own that ends without a word before its change `number` (from 0); False if it got done."""
    process = os.fork()
    if process:
        status = os.waitpid(process, 0)[1]
        assert status in (0, KILLED << 8), "it failed"
        return status != 0
    code = 1
    try:
        left = iter(range(number))

        def mortal(change: Callable[..., object]) -> Callable[..., object]:
            return lambda *words, **more: change(*words, **more) if next(left, None) is not None else os._exit(KILLED)

        for name in _CHANGES:
            setattr(os, name, mortal(getattr(os, name)))
        HostFile.pwrite, HostFile.pwritev = mortal(HostFile.pwrite), mortal(HostFile.pwritev)
        FileRange.put = mortal(FileRange.put)
        work()
        code = 0
    finally:
        os._exit(code)
