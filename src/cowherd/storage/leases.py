"""Asks the kernel whether anybody has a file open, by a lease, which it grants only on a file that nobody else has open.

The answer counts every process, also of other process id namespaces and users, files that are mapped and closed, and the kernel's
own uses such as loop devices: on this host, through this file system. Source: fcntl(2), "Leases".
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` wraps in enumerations, which take longer to load
import errno
import fcntl
import os
import time

from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.paths import PathName

_PATIENCE_SECONDS = 60.0  # the kernel breaks a lease that its holder keeps for more than 45 (/proc/sys/fs/lease-break-time)
_NO_ANSWER = frozenset({errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY})


class Openings(NamedTuple):
    """Whether a file is open anywhere, this process included: in any way (`any`), and for writing (`writing`)."""

    any: bool
    writing: bool


def openings(path: PathName) -> Openings | None:
    """Returns how a regular file is open now; None if the host does not say: only the file's owner and root may ask, and not
    every file system answers. The lease ends at once; a process that opens the file at that moment waits for it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return openings_beside(fd)
    finally:
        os.close(fd)


def openings_beside(fd: int) -> Openings | None:
    """Does the same for the file of a descriptor that is open for reading only; that opening itself does not count."""
    try:
        # If a process opens the file in between, the kernel sends a signal, and the default one for leases ends the program.
        fcntl.fcntl(fd, fcntl.F_SETSIG, _signal.SIGURG)
        if _granted(fd, fcntl.F_WRLCK):
            return Openings(any=False, writing=False)
        return Openings(any=True, writing=not _granted(fd, fcntl.F_RDLCK))
    except OSError as error:
        if error.errno in _NO_ANSWER:
            return None
        raise


def _granted(fd: int, kind: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
    except BlockingIOError:
        return False
    _give_back(fd)
    return True


def _give_back(fd: int) -> None:
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:  # it is being broken, which closing the file ends as well
        return


def open_despite_leases(path: PathName, flags: int, mode: int = 0o777) -> int:
    """Does what os.open does, for `flags` with O_NONBLOCK, with which an open fails while there is a lease on the file.

    Waits until the lease ends, as an open that blocks would. Raises `OSError`.
    """
    until = None
    while True:
        try:
            return os.open(path, flags, mode)
        except BlockingIOError:
            now = time.monotonic()
            until = until or now + _PATIENCE_SECONDS
            if now > until:
                raise
            time.sleep(0.001)
