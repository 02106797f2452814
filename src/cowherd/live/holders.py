"""Which processes have a file open, as /proc shows it: who, for writing or not, holding image locks or not."""

from __future__ import annotations

import contextlib
import os
import stat

from cowherd.errors import HostFileError, ImageInUse
from cowherd.paths import as_path
from cowherd.storage.locks import NAMES, PERMISSION_BASE, SHARED_BASE
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from pathlib import Path

_FILE = "file"
_Key = tuple[str, int, int]
_PROC = "/proc"
_COMMAND_LINE_LENGTH = 120
_KERNEL_NAME_LENGTH = 15
_LOCK_BYTES = frozenset(base + n for base in (PERMISSION_BASE, SHARED_BASE) for n in range(len(NAMES)))


class Holder(NamedTuple):
    """A process that has a file open.

    `command` is its program's name and `command_line` the beginning of its arguments, both escaped for printing; `writing`: some
    descriptor can write; `locking`: some descriptor holds locks of QEMU's image lock protocol.
    """

    pid: int
    command: str
    command_line: str
    writing: bool
    locking: bool

    @property
    def is_this_process(self) -> bool:
        """Whether the holder is the process that asks."""
        return self.pid == os.getpid()


class Survey(NamedTuple):
    """Who has a file open: `holders`, by process id; `unreadable` counts the processes that may not be looked into."""

    holders: tuple[Holder, ...]
    unreadable: int


def holders(path: str | os.PathLike[str]) -> tuple[Holder, ...]:
    """Returns the processes seen to have the file open; `survey` also counts those not seen. Raises `HostFileError`."""
    return survey(path).holders


def survey(path: str | os.PathLike[str]) -> Survey:
    """Looks through the descriptors of all processes for the file that `path` leads to (a block device: by its number).

    What has mapped the file and closed it is not seen, nor is the kernel itself, as with a loop device.
    Raises `HostFileError` where the file or /proc can't be looked at.
    """
    try:
        wanted = _key(os.stat(path))
        processes = sorted(int(name) for name in os.listdir(_PROC) if name.isdecimal())
    except OSError as error:
        raise HostFileError(path, "find who uses", error) from error
    found, unreadable = [], 0
    for pid in processes:
        try:
            holder = _look_into(pid, wanted)
        except PermissionError:
            unreadable += 1
        else:
            found += [holder] if holder else []
    return Survey(tuple(found), unreadable)


def writers(paths: Iterable[str | os.PathLike[str]]) -> dict[Path, tuple[Holder, ...]]:
    """Returns, for those of `paths` that another process has open for writing, who does; /proc is looked through only once.

    A path that leads nowhere has no writers. Raises `HostFileError` where /proc can't be looked at.
    """
    wanted: dict[_Key, list[Path]] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            wanted.setdefault(_key(os.stat(path)), []).append(as_path(path))
    found = _writers_among(lambda key: key in wanted) if wanted else {}
    return {path: holders for key, holders in found.items() for path in wanted[key]}


def writers_of_files(files: Container[tuple[int, int]]) -> dict[tuple[int, int], tuple[Holder, ...]]:
    """Does the same with regular files, told by (device, inode): however many there are, none of them is looked at."""
    found = _writers_among(lambda key: key[0] == _FILE and key[1:] in files)
    return {key[1:]: holders for key, holders in found.items()}


def _writers_among(wanted: Callable[[_Key], bool]) -> dict[_Key, tuple[Holder, ...]]:
    found: dict[_Key, tuple[Holder, ...]] = {}
    for pid in _processes():
        for key in filter(wanted, _open_in(pid)) if pid != os.getpid() else ():
            with contextlib.suppress(PermissionError):  # it changed its user since its descriptors were listed
                holder = _look_into(pid, key)
                if holder and holder.writing:
                    found[key] = (*found.get(key, ()), holder)
    return found


def descriptors_of(device: int, inode: int) -> list[Path]:
    """Returns one name for each process that has this file open, through which it can be opened even after it was deleted.

    Raises `HostFileError` where /proc can't be looked at; processes that may not be looked into are left out.
    """
    found = []
    for pid in _processes():
        descriptors = f"{_PROC}/{pid}/fd"
        with contextlib.suppress(OSError):  # it has ended, or may not be looked into
            names = sorted(os.listdir(descriptors))
            paths = [f"{descriptors}/{name}" for name in names]
            found += [as_path(path) for path in paths if _leads_to(path, ("file", device, inode))][:1]
    return found


def _processes() -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(_PROC) if name.isdecimal())
    except OSError as error:
        raise HostFileError(_PROC, "look through", error) from error


def _open_in(pid: int) -> set[_Key]:
    """Returns the files that a process has open, none if it may not be looked into or has ended."""
    keys = set()
    try:
        descriptors = os.listdir(f"{_PROC}/{pid}/fd")
    except OSError:
        return set()
    for name in descriptors:
        with contextlib.suppress(OSError):  # closed meanwhile
            keys.add(_key(os.stat(f"{_PROC}/{pid}/fd/{name}")))
    return keys


def describe(holder: Holder) -> str:
    """Returns one line such as `qemu-system-x86_64 (pid 1234, writing)`."""
    name = "this process" if holder.is_this_process else holder.command
    return f"{name} (pid {holder.pid}, {'writing' if holder.writing else 'reading'})"


@contextlib.contextmanager
def naming_holders() -> Iterator[None]:
    """Fills in `holders` of an `ImageInUse` that passes through, where /proc shows them; the error stays the same object."""
    try:
        yield
    except ImageInUse as error:
        if not error.holders:
            error.holders = _lines(error.path)
        raise


def _lines(path: Path) -> tuple[str, ...]:
    """Names those that lock the image, or failing that all that have it open; this process only where there is no other."""
    try:
        seen = survey(path)
    except HostFileError:  # nothing to add to the error that is on its way
        return ()
    locking = [holder for holder in seen.holders if holder.locking]
    suspects = locking or list(seen.holders)
    others = [holder for holder in suspects if not holder.is_this_process]
    if not others and not locking and seen.unreadable:
        unseen = f"perhaps one of {seen.unreadable} processes that only their user or root may look into"
        return (*map(describe, suspects), unseen)
    return tuple(map(describe, others or suspects))


def _key(info: os.stat_result) -> _Key:
    if stat.S_ISBLK(info.st_mode):
        return "block device", info.st_rdev, 0
    return _FILE, info.st_dev, info.st_ino


def _look_into(pid: int, wanted: _Key) -> Holder | None:
    """Returns the process as a holder, or None where it has not got the file open or has ended meanwhile."""
    process = f"{_PROC}/{pid}"
    try:
        descriptors = [name for name in os.listdir(f"{process}/fd") if _leads_to(f"{process}/fd/{name}", wanted)]
        if not descriptors:
            return None
        facts = [_flags_and_locks(f"{process}/fdinfo/{name}") for name in descriptors]
        arguments = _read(f"{process}/cmdline")
        kernel_name = _read(f"{process}/comm").removesuffix(b"\n")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Holder(
        pid=pid,
        command=printable(program_name(arguments, kernel_name)),
        command_line=shortened(printable(arguments.rstrip(b"\0").replace(b"\0", b" "))),
        writing=any(writing for writing, _ in facts),
        locking=any(locking for _, locking in facts),
    )


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _leads_to(descriptor: str, wanted: _Key) -> bool:
    try:
        return _key(os.stat(descriptor)) == wanted
    except PermissionError:
        raise
    except OSError:  # closed meanwhile, or a file system that is gone: not the file that was just looked at
        return False


def _flags_and_locks(fdinfo: str) -> tuple[bool, bool]:
    """Returns whether a descriptor can write, and whether it holds image locks (proc_pid_fdinfo(5))."""
    writing = locking = False
    for line in os.fsdecode(_read(fdinfo)).splitlines():
        field, _, value = line.partition(":")
        if field == "flags":
            writing = int(value, 8) & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)
        elif field == "lock":
            locking = locking or _is_image_lock(value)
    return writing, locking


def _is_image_lock(lock: str) -> bool:
    """Judges a line such as `1: OFDLCK ADVISORY  READ -1 fe:00:2156785 100 101`; it ends in the first and last byte, or EOF."""
    *_, first, last = lock.split()
    end = max(_LOCK_BYTES) if last == "EOF" else int(last)
    return any(int(first) <= byte <= end for byte in _LOCK_BYTES)


def program_name(arguments: bytes, kernel_name: bytes) -> bytes:
    """Returns a process's program, from /proc's cmdline and comm.

    The kernel keeps 15 bytes of the name; the rest is taken from the arguments where they begin with the same name.
    """
    name = os.path.basename(arguments.split(b"\0", 1)[0])
    return name if len(kernel_name) == _KERNEL_NAME_LENGTH and name.startswith(kernel_name) else kernel_name


def shortened(text: str) -> str:
    """Returns the beginning of a command line, as much as a message can hold."""
    return text if len(text) <= _COMMAND_LINE_LENGTH else text[: _COMMAND_LINE_LENGTH - 1] + "…"
