"""Finds who has files open or mapped, including unseen processes that only the kernel knows of: those of other process id
namespaces and other users."""

from __future__ import annotations

import contextlib
import os
import time

from cowherd.errors import HostFileError
from cowherd.live.holders import (
    INIT,
    NOTHING,
    PROC,
    descriptors,
    flags_and_locks,
    hidden_reason,
    look_through,
    own_number,
    processes,
)
from cowherd.live.kernel_holders import FILE, kernel_uses
from cowherd.storage.leases import openings, openings_beside
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from cowherd.live.holders import Holder
    from cowherd.live.kernel_holders import KernelUse, Key
    from cowherd.paths import PathName
    from cowherd.storage.holding import Holding
    from cowherd.storage.leases import Openings

_LAST_LOOKS = 10


class Sight(NamedTuple):
    """Who has which files open or mapped: `holders` are processes, `kernel` are uses by the kernel itself.

    `unseen` are the files that a process has open which is not seen, and whether it can write. `hidden` says why processes may be
    out of sight, "" if none can be.
    """

    holders: dict[Key, tuple[Holder, ...]]
    kernel: dict[Key, tuple[KernelUse, ...]]
    unseen: dict[Key, bool]
    hidden: str


def look(files: Mapping[Key, PathName], only_writers: Container[Key] = (), held: Holding | None = None) -> Sight:
    """Looks once through all other processes, and the kernel's own uses, for `files`, given by key and path.

    Asks the kernel first whether a file is open at all (for those in `only_writers`: for writing), and does not look for one that
    is not. The descriptors of files that the caller holds do not count. If there is no /proc, `hidden` says so.
    """
    open_ = {key: _openings(path, key, held) if key[0] == FILE else None for key, path in files.items()}
    doubtful = {
        key for key, answer in open_.items() if answer is None or answer.writing or (answer.any and key not in only_writers)
    }
    kernel = kernel_uses(doubtful) if doubtful else {}
    try:
        found, unreadable = _look_through(doubtful) if doubtful else ({}, _count_closed())
        hidden = hidden_reason(unreadable)
        ours = _own(held.descriptors() if held is not None else ()) if doubtful else {}
    except HostFileError as error:
        return Sight({}, kernel, {key: answer.writing for key, answer in open_.items() if answer and answer.any}, str(error))
    unseen = {}
    for key in doubtful - kernel.keys():
        seen = found.get(key, ())
        if open_[key] is None or ours.get(key) or any(holder.writing for holder in seen):
            continue
        # An unseen writer is somebody's machine. An unseen reader matters only if processes can be hidden and none is seen with
        # the file: otherwise it may be a reader that is seen, or the kernel, such as nfsd.
        readers_too = bool(hidden) and not seen and key not in ours
        answer = _openings_after_all(files[key], key, held, readers_too=readers_too)
        if answer:
            unseen[key] = answer.writing
    return Sight(found, kernel, unseen, hidden)


def _look_through(doubtful: set[Key]) -> tuple[dict[Key, tuple[Holder, ...]], int]:
    """Looks through open files first, and through mappings only for files without an open writer or machine."""
    found, unreadable = look_through(doubtful, own=False)
    rest = {key for key in doubtful if not any(holder.writing or holder.is_machine for holder in found.get(key, ()))}
    if any(key[0] == FILE for key in rest):
        mapping, _ = look_through(NOTHING, rest, own=False)
        for key, those in mapping.items():
            found[key] = (*found.get(key, ()), *those)
    return found, unreadable


def _openings(path: PathName, key: Key, held: Holding | None) -> Openings | None:
    own = held.reader(key[1:]) if held is not None else None
    return openings(path) if own is None else openings_beside(own)


def _openings_after_all(path: PathName, key: Key, held: Holding | None, *, readers_too: bool) -> Openings | None:
    """Returns how a file stays open, for writing (with `readers_too`, in any way); None if it does not, or the host can't say.

    Asks several times, because a process may have looked at the file only for a moment.
    """
    for look in range(_LAST_LOOKS):
        if look:
            time.sleep(0.005)
        answer = _openings(path, key, held)
        if answer is None or not (answer.writing or (answer.any and readers_too)):
            return None
    return answer


def _own(held: Container[int]) -> dict[Key, bool]:
    """Returns the files that this process has open itself, other than by the descriptors `held`, and whether for writing."""
    found: dict[Key, bool] = {}
    for name, key in descriptors(own_number()):
        if int(name) in held:
            continue
        with contextlib.suppress(OSError):  # the descriptor of the listing itself is closed by now
            found[key] = found.get(key, False) or flags_and_locks(f"{PROC}/self/fdinfo/{name}")[0]
    return found


def _count_closed() -> int:
    """Returns the number of processes that this user may not look into, without looking into them; root may look into all."""
    return 0 if os.geteuid() == 0 else sum(not os.access(f"{PROC}/{pid}/fd", os.R_OK) for pid in processes() if pid != INIT)
