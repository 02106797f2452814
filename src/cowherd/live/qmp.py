"""Queries machines on their QMP monitors: several side by side, each within its own time.

The `qemu.qmp` package speaks the protocol. It waits for ever if nobody answers: for a monitor that serves another client, a QEMU
that is stopped, a serial port, a peer that never ends its line. So each step has a limit here, and each way to fail an error of
its own. Only queries are sent; nothing here changes, stops or continues a machine.

Source: QEMU's docs/interop/qmp-spec.rst, and the documentation of `qemu.qmp`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cowherd.distribution import how_to_install
from cowherd.errors import CowherdError
from cowherd.live import unix_sockets
from cowherd.live.holders import PROC
from cowherd.live.process import look_up
from cowherd.text import printable, shown

if TYPE_CHECKING:
    from qemu.qmp import QMPClient

    from cowherd.paths import PathName

CONNECT_SECONDS = 5.0
"""The longest time until a monitor's greeting."""
COMMAND_SECONDS = 10.0
"""The longest time until the answer to one command."""
LONGEST_ANSWER_BYTES = 64 << 20
"""The longest line of an answer; `query-named-block-nodes` has some MiB for a machine with a thousand nodes."""

_ASKS = "query-"
_BACKLOG_SECONDS = 0.05
_LONGEST_ADDRESS = 107
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: process, user, group
_NOBODY_LISTENS = (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR, errno.ENOTSOCK, errno.EPROTOTYPE)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
_STATES = {"T": "is stopped", "t": "is held by a debugger", "D": "waits for the kernel, perhaps for a disk", "Z": "has ended"}


class MonitorError(CowherdError):
    """A monitor could not be queried. Attributes: `socket` (its path) and `pid` (its process, None if unknown)."""

    def __init__(self, path: str, pid: int | None = None):
        self.socket, self.pid = path, pid


class QmpMissing(MonitorError):
    """The package that speaks QMP is not installed."""

    def __str__(self) -> str:
        return f"asking machines needs the package qemu.qmp: {how_to_install('live')}"


class MonitorRefused(MonitorError):
    """This user may not connect to the monitor."""

    def __str__(self) -> str:
        return f"the monitor {shown(self.socket)} may not be asked by this user: ask as root, or as who started the machine"


class MonitorLost(MonitorError):
    """Nobody is at the monitor's other end, or not any more. Further attribute: `reason`."""

    def __init__(self, path: str, reason: str, pid: int | None = None):
        super().__init__(path, pid)
        self.reason = reason

    def __str__(self) -> str:
        return f"the monitor {shown(self.socket)} is lost: {self.reason}"


class MonitorBusy(MonitorError):
    """The monitor serves another client: QEMU talks to one at a time. Further attribute: `clients` (process ids)."""

    def __init__(self, path: str, pid: int | None, clients: Sequence[int]):
        super().__init__(path, pid)
        self.clients = tuple(clients)

    def __str__(self) -> str:
        known = [found.describe() for found in map(look_up, self.clients) if found]
        who = ", ".join(known) or "a process that may not be looked at"
        return f"the monitor {shown(self.socket)} serves another client: {who}. A second monitor (-qmp) serves cowherd beside it"


class MonitorSilent(MonitorError):
    """The monitor does not answer in time. Further attributes: `seconds`, and `state` (of its process, "" if unknown)."""

    def __init__(self, path: str, pid: int | None, seconds: float):
        super().__init__(path, pid)
        self.seconds, self.state = seconds, _state_of(pid)

    def __str__(self) -> str:
        process = look_up(self.pid) if self.pid else None
        doing = f": {process.describe()} {self.state or 'does not answer'}" if process else ""
        return f"the monitor {shown(self.socket)} does not answer within {self.seconds:g} s{doing}"


class NotQmp(MonitorError):
    """The other end does not speak QMP. Further attribute: `problem` (what is wrong with an answer, "" if all of it is)."""

    def __init__(self, path: str, pid: int | None = None, problem: str = ""):
        super().__init__(path, pid)
        self.problem = problem

    def __str__(self) -> str:
        answer = f" ({self.problem})" if self.problem else ""
        return f"the socket {shown(self.socket)} is no QMP monitor: what it sends is not that protocol{answer}"


class Answers(NamedTuple):
    """The answers of a machine, `by_command`, without commands that it does not know. `pid` is its process, None if unknown."""

    pid: int | None
    by_command: dict[str, Any]


def ask(path: PathName, commands: Sequence[str]) -> Answers:
    """Sends several queries to the monitor at a Unix socket. Raises `MonitorError`, ValueError for a command that is no query."""
    (answer,) = ask_all([path], commands)
    if isinstance(answer, MonitorError):
        raise answer
    return answer


def ask_all(paths: Sequence[PathName], commands: Sequence[str]) -> list[Answers | MonitorError]:
    """Does so with many monitors at once; returns for each its answers, or the error.

    A monitor that does not answer delays only its own result. Must not be called from a running event loop.
    """
    for command in commands:
        if not command.startswith(_ASKS):
            raise ValueError(f"{command!r} is no command that only asks")
    names = [os.path.abspath(os.fspath(path)) for path in paths]
    try:
        import qemu.qmp as _  # noqa: F401 - whether it is there
    except ImportError:
        return [QmpMissing(name) for name in names]
    logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())  # errors are raised, so the package need not print them

    async def all_of_them() -> list[Answers | MonitorError]:
        return list(await asyncio.gather(*(_answer(name, commands) for name in names)))

    return asyncio.run(all_of_them())


async def _answer(path: str, commands: Sequence[str]) -> Answers | MonitorError:
    try:
        return await _ask(path, commands)
    except MonitorError as error:
        return error


async def _ask(path: str, commands: Sequence[str]) -> Answers:
    client = _client()
    loop = asyncio.get_running_loop()
    until = loop.time() + CONNECT_SECONDS
    connection = await _connected(path, until)
    pid = _listener(connection)
    try:
        await _greeted(client, connection, path, pid, until)
        told = {command: await _asked(client, command, path, pid) for command in commands}
        return Answers(pid, {command: answer for command, answer in told.items() if answer is not None})
    finally:
        connection.close()
        await _left(client)


def _client() -> QMPClient:
    from qemu.qmp import Message, QMPClient

    class Client(QMPClient):
        """A client that writes no message to a log: for that the package lays out each one as text, slower than it reads it."""

        def _cb_inbound(self, msg: Message) -> Message:
            return msg

    return Client(readbuflen=LONGEST_ANSWER_BYTES)


async def _connected(path: str, until: float) -> socket.socket:
    """Returns a connected socket. If the listener's queue is full (EAGAIN), tries again until the time is up."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with _address(path) as address:
            while True:
                try:
                    connection.connect(address)
                except BlockingIOError:
                    if asyncio.get_running_loop().time() >= until:
                        raise _unanswered(path, None, CONNECT_SECONDS) from None
                    await asyncio.sleep(_BACKLOG_SECONDS)
                else:
                    return connection
    except OSError as error:
        connection.close()
        if error.errno in _FORBIDDEN:
            raise MonitorRefused(path) from error
        reason = "nobody listens there" if error.errno in _NOBODY_LISTENS else error.strerror or str(error)
        raise MonitorLost(path, reason) from error
    except BaseException:
        connection.close()
        raise


@contextlib.contextmanager
def _address(path: str) -> Iterator[str]:
    """Gives a path in the length that an address may have (unix(7)). Machines bind short names in deep directories."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        yield path
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"{PROC}/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


async def _greeted(client: QMPClient, connection: socket.socket, path: str, pid: int | None, until: float) -> None:
    from qemu.qmp import ConnectError

    try:
        async with asyncio.timeout_at(until):
            await client.connect(connection)
    except TimeoutError:
        raise _unanswered(path, pid, CONNECT_SECONDS) from None
    except ConnectError as error:
        if isinstance(error.exc, EOFError | ConnectionError | BrokenPipeError):
            raise MonitorLost(path, "it hung up instead of a greeting", pid) from error
        raise NotQmp(path, pid) from error


async def _asked(client: QMPClient, command: str, path: str, pid: int | None) -> Any:
    """Returns the answer to one command, None if the machine does not know the command."""
    from qemu.qmp import ExecInterruptedError, ExecuteError, QMPError, StateError

    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            return await client.execute(command)
    except TimeoutError:
        raise MonitorSilent(path, pid, COMMAND_SECONDS) from None
    except ExecuteError as error:
        if error.error_class == "CommandNotFound":  # older than the command, or a storage daemon
            return None
        raise MonitorLost(path, f"it refuses {command}: {printable(str(error))}", pid) from error
    except (ExecInterruptedError, StateError) as error:
        (reason,) = await asyncio.gather(client.disconnect(), return_exceptions=True)
        if isinstance(reason, EOFError | OSError | None):
            raise MonitorLost(path, "it hung up in the middle", pid) from error
        raise NotQmp(path, pid) from error
    except QMPError as error:  # a reply that is none
        raise NotQmp(path, pid) from error


async def _left(client: QMPClient) -> None:
    """Ends a session in any state. Disconnecting raises the error that ended the session, which was reported already."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(1.0):
            await client.disconnect()


def _unanswered(path: str, pid: int | None, seconds: float) -> MonitorError:
    """Returns why a monitor has not greeted: it serves another client, as the kernel shows, or it is silent."""
    clients = [client for one in unix_sockets.connections_to(path) for client in unix_sockets.processes_with_socket(one.peer)]
    others = sorted(set(clients) - {os.getpid()})
    if others:
        return MonitorBusy(path, pid, others)
    return MonitorSilent(path, pid, seconds)


def _listener(connection: socket.socket) -> int | None:
    """Returns the process that listens at the other end (unix(7), SO_PEERCRED), None for one of another process id namespace."""
    pid: int = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
    return pid or None


def _state_of(pid: int | None) -> str:
    """Returns the state of a process, in words to follow its name; "" for a state that explains nothing."""
    try:
        with open(f"{PROC}/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0].decode("ascii")
    except (OSError, IndexError):
        return ""
    return _STATES.get(state, "")
