"""Whether anybody has a file open, asked of the kernel itself by way of a lease, which it grants on files that nobody has open.

The answer counts every process, also of other process id namespaces and users, what is mapped and closed, and the kernel's own
uses such as loop devices: on this host, through this file system. Source: fcntl(2), "Leases".
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time

from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.paths import PathName

_PATIENCE_SECONDS = 60.0  # the kernel takes a lease away from who does not give it back after 45, /proc/sys/fs/lease-break-time
_NO_ANSWER = frozenset({errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY})


class Openings(NamedTuple):
    """Whether a file is open anywhere, this process included: at all (`any`), and so that it can be written to (`writing`)."""

    any: bool
    writing: bool


def openings(path: PathName) -> Openings | None:
    """Returns how a regular file is open now; None where the host does not say: only its owner and root may ask, and not every
    file system answers. The lease is given back at once; who opens the file at that moment waits for it.
    """
    import signal  # not at the head of the module, which everybody loads who opens a file

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        # Somebody may open the file in between: the kernel tells us by a signal, and that of leases would end the program.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        if _granted(fd, fcntl.F_WRLCK):
            return Openings(any=False, writing=False)
        return Openings(any=True, writing=not _granted(fd, fcntl.F_RDLCK))
    except OSError as error:
        if error.errno in _NO_ANSWER:
            return None
        raise
    finally:
        os.close(fd)


def _granted(fd: int, kind: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
    except BlockingIOError:
        return False
    with contextlib.suppress(BlockingIOError):  # it is being taken away, which closing ends as well
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def open_despite_leases(path: PathName, flags: int, mode: int = 0o777) -> int:
    """Does what os.open does, where `flags` hold O_NONBLOCK: with that, an open fails while somebody has a lease on the file.

    As one that blocks does, it waits until the lease is given back. Raises `OSError`.
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
