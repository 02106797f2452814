"""Finds the processes that have a file open or mapped, from /proc: which process, whether for writing, whether with locks."""

from __future__ import annotations

import contextlib
import os
import time

from cowherd.errors import HostFileError, ImageInUse
from cowherd.live.kernel_holders import FILE, Key, key_of
from cowherd.live.mappings import mapped
from cowherd.live.owners import user_of
from cowherd.paths import as_path
from cowherd.storage.locks import NAMES, PERMISSION_BASE, SHARED_BASE
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator
    from pathlib import Path

    from cowherd.paths import PathName


PROC = "/proc"
_COMMAND_LINE_LENGTH = 120
_KERNEL_NAME_LENGTH = 15
_LOCK_BYTES = frozenset(base + n for base in (PERMISSION_BASE, SHARED_BASE) for n in range(len(NAMES)))
_MACHINE_PROGRAMS = (
    "qemu",
    "kvm",
    "cloud-hypervisor",
    "crosvm",
    "firecracker",
    "stratovirt",
    "nbdkit",
    "virtiofsd",
    "vhost-user",
)
_LIBVIRTS_MONITOR = b"charmonitor"  # the id that libvirt gives to the character device of each domain's monitor
INIT = 1
NOTHING: frozenset[Key] = frozenset()
_KTHREADD = 2  # the kernel's first thread but init, with this number in the first process id namespace, and there alone
_THREAD_OF_KERNEL = 0x00200000  # PF_KTHREAD


class Holder(NamedTuple):
    """A process that has a file open.

    `command` is its program's name and `command_line` the beginning of its arguments, both escaped for printing. `writing` says
    that some descriptor can write, `locking` that some descriptor holds locks of QEMU's image lock protocol, `mapped` that it has
    the file mapped, `is_machine` that it runs a machine or serves its disks, judged by its name and its locks. `machine` is the
    name of the machine (QEMU's -name), escaped, "" if none; `is_domain` says that libvirt started it. `since` is when the process
    began, in seconds since 1970, 0 if unknown. `user` is the name of its user, escaped, "" if unknown.
    """

    pid: int
    command: str
    command_line: str
    writing: bool
    locking: bool
    mapped: bool = False
    is_machine: bool = False
    machine: str = ""
    is_domain: bool = False
    since: float = 0
    user: str = ""

    @property
    def is_this_process(self) -> bool:
        """Whether the holder is the process that runs this code."""
        return self.pid == own_number()


class Survey(NamedTuple):
    """Who has a file open: `holders`, by process id; `unreadable` is the number of processes not open to this user."""

    holders: tuple[Holder, ...]
    unreadable: int


def holders(path: PathName) -> tuple[Holder, ...]:
    """Returns the processes that are seen to have the file open; `survey` also counts the others. Raises `HostFileError`."""
    return survey(path).holders


def survey(path: PathName) -> Survey:
    """Looks through all processes for the file that `path` leads to (a block device: by its number), open or mapped.

    Does not find uses by the kernel itself, such as a loop device: see `kernel_holders`.
    Raises `HostFileError` if the file or /proc can't be looked at.
    """
    try:
        wanted = key_of(os.stat(path))
    except OSError as error:
        raise HostFileError(path, "find who uses", error) from error
    found, unreadable = look_through({wanted}, {wanted}, own=True)
    return Survey(found.get(wanted, ()), unreadable)


def writers(paths: Iterable[PathName]) -> dict[Path, tuple[Holder, ...]]:
    """Returns the other processes that have any of `paths` open for writing, by path; looks through /proc only once.

    A path that leads nowhere has no writers. Raises `HostFileError` if /proc can't be looked at.
    """
    wanted: dict[Key, list[Path]] = {}
    for path in paths:
        with contextlib.suppress(OSError):
            wanted.setdefault(key_of(os.stat(path)), []).append(as_path(path))
    found = look_through(wanted, list(wanted), own=False)[0] if wanted else {}
    writing = {key: tuple(holder for holder in those if holder.writing) for key, those in found.items()}
    return {path: those for key, those in writing.items() if those for path in wanted[key]}


def descriptors_of(device: int, inode: int) -> list[Path]:
    """Returns a name for each process that has this file open; through it the file can be opened even after it was deleted.

    Raises `HostFileError` if /proc can't be looked at; leaves out processes that it may not look into.
    """
    wanted = (FILE, device, inode)
    found = []
    for pid in processes():
        with contextlib.suppress(PermissionError):  # this user may not look into it
            names = sorted((name for name, key in descriptors(pid) if key == wanted), key=int)
            found += [as_path(f"{PROC}/{pid}/fd/{name}") for name in names[:1]]
    return found


def processes() -> list[int]:
    """Returns the numbers of all processes that /proc shows. Raises `HostFileError` if there is no /proc."""
    try:
        return sorted(int(name) for name in os.listdir(PROC) if name.isdecimal())
    except OSError as error:
        raise HostFileError(PROC, "look through", error) from error


def own_number() -> int:
    """Returns this process's number in /proc, which may show another process id namespace than that of this process."""
    with contextlib.suppress(OSError, ValueError):
        return int(os.readlink(f"{PROC}/self"))
    return os.getpid()


def look_through(
    wanted: Container[Key], mappable: Collection[Key] = (), *, own: bool
) -> tuple[dict[Key, tuple[Holder, ...]], int]:
    """Returns the processes that have each of `wanted` open, or of `mappable` mapped, and the number of processes that this user
    may not look into. Looking through mappings takes longer than through open files."""
    found: dict[Key, tuple[Holder, ...]] = {}
    unreadable, this = 0, None if own else own_number()
    for pid in processes():
        if pid == this:
            continue
        try:
            opened: dict[Key, list[str]] = {}
            for name, key in descriptors(pid) if wanted is not NOTHING else ():
                if key in wanted:
                    opened.setdefault(key, []).append(name)
            in_memory = mapped(f"{PROC}/{pid}", mappable) if mappable else {}
            for key in {**opened, **in_memory}:
                holder = _holder(pid, opened.get(key, ()), in_memory.get(key))
                if holder:
                    found[key] = (*found.get(key, ()), holder)
        except PermissionError:
            unreadable += not is_of_system(pid)
    return found, unreadable


def descriptors(pid: int) -> Iterator[tuple[str, Key]]:
    """Yields (number of the descriptor, key) of each file that a process has open; nothing if it has ended.

    Raises `PermissionError` if this user may not look into it.
    """
    return ((name, key_of(info)) for name, info in open_files(pid))


def open_files(pid: int) -> Iterator[tuple[str, os.stat_result]]:
    """Yields (number of the descriptor, result of stat(2)) in the same way."""
    place = f"{PROC}/{pid}/fd"
    try:
        names = os.listdir(place)
    except PermissionError:
        raise
    except OSError:  # it has ended
        return
    for name in names:
        try:
            info = os.stat(f"{place}/{name}")
        except PermissionError:
            raise
        except OSError:  # closed meanwhile, or on a file system that is gone
            continue
        yield name, info


def is_of_system(pid: int) -> bool:
    """Returns whether a process is init or a thread of the kernel's, which open no images."""
    if pid == INIT:  # if it is a container's program, the host's processes are hidden anyway
        return True
    with contextlib.suppress(OSError, IndexError, ValueError):
        return bool(int(_stat_fields(pid)[6]) & _THREAD_OF_KERNEL)
    return False


def _stat_fields(pid: int) -> list[bytes]:
    """Returns the fields of /proc's stat from the third on. The second, the program's name, may hold any characters."""
    return _read(f"{PROC}/{pid}/stat").rpartition(b")")[2].split()


def hidden_reason(unreadable: int) -> str:
    """Returns the reason why there may be processes that are not seen, "" if all are.

    In the first process id namespace, and in no other, number 2 is the kernel's kthreadd; hidepid hides it from users.
    """
    try:
        whole = _read(f"{PROC}/{_KTHREADD}/comm") == b"kthreadd\n"
    except OSError:
        whole = False
    if not whole:
        return "/proc shows the processes of a container or of one user only, not those of the host"
    if unreadable:
        return "there are processes that only their user or root may look into"
    return ""


def describe(holder: Holder) -> str:
    """Returns one line such as `qemu-system-x86_64 (pid 1234, user root, machine web, since 2026-11-29 10:24, writing)`."""
    facts = [f"pid {holder.pid}"]
    facts += [f"user {holder.user}"] if holder.user else []
    facts += [f"{'domain' if holder.is_domain else 'machine'} {holder.machine}"] if holder.machine else []
    facts += [f"since {time.strftime('%Y-%m-%d %H:%M', time.localtime(holder.since))}"] if holder.since else []
    facts.append("writing" if holder.writing else "reading")
    return f"{'this process' if holder.is_this_process else holder.command} ({', '.join(facts)})"


@contextlib.contextmanager
def naming_holders() -> Iterator[None]:
    """Fills in the `holders` of an `ImageInUse` that passes through, as far as /proc shows them, and raises the same object."""
    try:
        yield
    except ImageInUse as error:
        if not error.holders:
            error.holders = _lines(error.path)
        raise


def _lines(path: Path) -> tuple[str, ...]:
    """Returns a line for each process that locks the image, or if none is seen, for all that have it open. If this process holds
    locks itself, it is in its own way, and the last line says so."""
    try:
        seen = survey(path)
    except HostFileError:  # nothing to add to the error that is on its way
        return ()
    others = [holder for holder in seen.holders if not holder.is_this_process]
    locking = [holder for holder in others if holder.locking]
    if not locking:
        hidden = hidden_reason(seen.unreadable)
        if hidden:
            return (*map(describe, others), f"perhaps a process that is not seen: {hidden}")
        if any(holder.locking for holder in seen.holders):
            return (*map(describe, others), "this program itself, by another name or a second time")
    return tuple(map(describe, locking or others))


def _holder(pid: int, descriptors: Collection[str], mapped_writable: bool | None) -> Holder | None:
    """Returns a process as the holder of a file that it has open by `descriptors` or (not None) mapped, None if it has ended."""
    process = f"{PROC}/{pid}"
    try:
        facts = [flags_and_locks(f"{process}/fdinfo/{name}") for name in descriptors]
        arguments = _read(f"{process}/cmdline")
        kernel_name = _read(f"{process}/comm").removesuffix(b"\n")
    except (FileNotFoundError, ProcessLookupError):
        return None
    command = printable(program_name(arguments, kernel_name))
    locking = any(locking for _, locking in facts)
    return Holder(
        pid=pid,
        command=command,
        command_line=shortened(printable(arguments.rstrip(b"\0").replace(b"\0", b" "))),
        writing=any(writing for writing, _ in facts) or bool(mapped_writable),
        locking=locking,
        mapped=mapped_writable is not None,
        is_machine=locking or runs_machines(pid, command),
        machine=_machine_name(arguments),
        is_domain=_LIBVIRTS_MONITOR in arguments,
        since=_began(pid),
        user=user_of(pid) or "",
    )


def holder_of(pid: int, descriptors: Collection[str]) -> Holder | None:
    """Returns a process as the holder of a file that it has open by `descriptors`, None if it has ended."""
    return _holder(pid, descriptors, None)


def describe_process(pid: int, *, writing: bool) -> Holder | None:
    """Returns a process as the holder of a file that the caller knows it has open, None if it has ended."""
    holder = _holder(pid, (), None)
    return holder._replace(writing=writing) if holder else None


def runs_machines(pid: int, command: str = "") -> bool:
    """Returns whether a program is one that runs machines or serves their disks, by its name or by that of its file."""
    names = [command]
    with contextlib.suppress(OSError):
        try:
            names.append(os.path.basename(os.readlink(f"{PROC}/{pid}/exe")))
        except PermissionError:  # the name alone may be read of any process
            names.append(os.fsdecode(_read(f"{PROC}/{pid}/comm")))
    return any(name.startswith(_MACHINE_PROGRAMS) or "qemu" in name for name in names)


def _machine_name(arguments: bytes) -> str:
    """Returns the machine's name from QEMU's arguments: `-name web`, `-name guest=web,...`, where a comma in it is doubled."""
    words = arguments.split(b"\0")
    option = next((word for word in (b"-name", b"--name") if word in words[:-1]), None)
    if option is None:
        return ""
    parts = words[words.index(option) + 1].replace(b",,", b"\0").split(b",")
    named = [part[6:] for part in parts if part.startswith(b"guest=")] or [part for part in parts[:1] if b"=" not in part]
    return printable(named[0].replace(b"\0", b",")) if named else ""


def _began(pid: int) -> float:
    with contextlib.suppress(OSError, IndexError, ValueError):
        ticks = int(_stat_fields(pid)[19])  # starttime, since the host's boot
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
    return 0


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def flags_and_locks(fdinfo: str) -> tuple[bool, bool]:
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
    """Returns whether a line such as `1: OFDLCK ADVISORY  READ -1 fe:00:2156785 100 101` (or `100 EOF`) is an image lock's."""
    *_, first, last = lock.split()
    end = max(_LOCK_BYTES) if last == "EOF" else int(last)
    return any(int(first) <= byte <= end for byte in _LOCK_BYTES)


def program_name(arguments: bytes, kernel_name: bytes) -> bytes:
    """Returns a process's program, from /proc's cmdline and comm.

    The kernel keeps 15 bytes of the name; the rest comes from the arguments if they begin with the same name.
    """
    name = os.path.basename(arguments.split(b"\0", 1)[0])
    return name if len(kernel_name) == _KERNEL_NAME_LENGTH and name.startswith(kernel_name) else kernel_name


def shortened(text: str) -> str:
    """Returns the beginning of a command line, short enough for a message."""
    return text if len(text) <= _COMMAND_LINE_LENGTH else text[: _COMMAND_LINE_LENGTH - 1] + "…"
