"""Finds who is connected to a Unix socket: the kernel names each connection's other end (sock_diag(7)), /proc its process.

Source: linux/unix_diag.h, linux/sock_diag.h and linux/netlink.h.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from cowherd.live.holders import PROC, processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.paths import PathName

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP = 0x001, 0x300
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBHIIIII")  # struct unix_diag_req: family, protocol, -, states, inode, show, cookie (two words)
_ANSWER = struct.Struct("=BBBBIII")  # struct unix_diag_msg: family, type, state, -, inode, cookie (two words)
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length with this head, type
_WORD = struct.Struct("=I")
_FILE = struct.Struct("=II")  # struct unix_diag_vfs: inode and device of the socket's file
_SHOW_FILE, _SHOW_PEER = 0x2, 0x4
_ABOUT_FILE, _ABOUT_PEER = 1, 2
_MINOR_BITS = 20  # the kernel's own dev_t (linux/kdev_t.h)
_ESTABLISHED = 1
_ROOM = 1 << 16


class Connection(NamedTuple):
    """A connection that a process has accepted on a Unix socket: the inodes of its end and of the other one, 0 if unknown."""

    inode: int
    peer: int


def connections_to(path: PathName) -> list[Connection]:
    """Returns the accepted connections of the socket at `path`, none if the kernel does not say.

    A connection that waits to be accepted has no inode yet, and does not count. The socket's file identifies it, because the name
    that it was bound to may be relative, or belong to another mount namespace.
    """
    with contextlib.suppress(OSError):  # the file is gone; no sock_diag: a small kernel, or a sandbox that forbids it
        info = os.stat(path)
        wanted = info.st_ino & 0xFFFFFFFF, os.major(info.st_dev) << _MINOR_BITS | os.minor(info.st_dev)
        return [Connection(inode, peer) for inode, peer, file in _established() if file == wanted and inode]
    return []


def processes_with_socket(inode: int) -> list[int]:
    """Returns the processes that have a socket open, without those that this user may not look into."""
    wanted, found = f"socket:[{inode}]", []
    for pid in processes():
        place = f"{PROC}/{pid}/fd"
        with contextlib.suppress(OSError):  # it has ended, or may not be looked into
            if any(os.readlink(f"{place}/{name}") == wanted for name in os.listdir(place)):
                found.append(pid)
    return found


def _established() -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Yields every established connection of Unix sockets: its inode, that of its other end, and (inode, device) of the file.

    Raises OSError if the kernel does not answer.
    """
    body = _REQUEST.pack(socket.AF_UNIX, 0, 0, 1 << _ESTABLISHED, 0, _SHOW_FILE | _SHOW_PEER, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        head = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | _NLM_F_DUMP, 0, 0)
        kernel.sendall(head + body)
        while True:
            for kind, message in _messages(kernel.recv(_ROOM)):
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    return
                yield _connection(message)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields (type, body) of each message in the bytes from netlink."""
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[_aligned(max(length, _HEADER.size)) :]


def _connection(message: bytes) -> tuple[int, int, tuple[int, int]]:
    inode, peer, file = _ANSWER.unpack_from(message)[4], 0, (0, 0)
    rest = message[_ANSWER.size :]
    while len(rest) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        value = rest[_ATTRIBUTE.size : length]
        if kind == _ABOUT_PEER:
            (peer,) = _WORD.unpack(value)
        elif kind == _ABOUT_FILE:
            file = _FILE.unpack(value)
        rest = rest[_aligned(max(length, _ATTRIBUTE.size)) :]
    return inode, peer, file


def _aligned(length: int) -> int:
    return -(-length // 4) * 4  # NLMSG_ALIGNTO and NLA_ALIGNTO
