"""Refuses work on files that others use. Every change calls this before its first write.

It looks in three places: QEMU's image locks; /proc, since machines may run without locks (`file.locking=off`, file systems that
have none); and the kernel, which uses files itself. Callers call `require_free` early, before long work, and again right before
the first write or rename: the locks that cowherd holds in between (`Holding`) keep only QEMU away.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time

from cowherd.errors import CowherdError, ImageInUse
from cowherd.formats import registry
from cowherd.herd.log import concerned
from cowherd.herd.records.header import Head, read_image
from cowherd.image.backing import resolve
from cowherd.image.chain import MAX_CHAIN
from cowherd.live.holders import describe, naming_holders
from cowherd.live.kernel_holders import Key, key_of
from cowherd.live.sight import look
from cowherd.notes import say
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE
from cowherd.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping
    from typing import TypeAlias

    from cowherd.herd.lineage.scan import Image
    from cowherd.live.holders import Holder
    from cowherd.live.sight import Sight
    from cowherd.paths import PathName
    from cowherd.storage.holding import Holding
    from cowherd.storage.locks import LockMode

    Used: TypeAlias = PathName | Image

REQUIRE_VARIABLE = "COWHERD_REQUIRE_PROC"
"""Environment variable. 1: refuse every change unless all processes can be seen; 0: don't even warn that some can't."""

_LOOKS, _PAUSE_SECONDS = 3, 0.02


class HoldersHidden(CowherdError):
    """`COWHERD_REQUIRE_PROC=1` is set, and some processes can't be seen that may hold an image. Attributes: `path`, `reason`."""

    def __init__(self, path: str, reason: str):
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return (
            f"whether somebody has {shown(self.path)} open can't be told for certain: {self.reason}. "
            f"Run it on the host, as root, or without {REQUIRE_VARIABLE}=1"
        )


def require_free(
    changed: Iterable[Used] = (), stable: Iterable[Used] = (), *, locks: bool = True, held: Holding | None = None
) -> None:
    """Raises `ImageInUse` if another user of a file is in the way of the work to be done with it.

    `changed` files will be written, renamed or removed: in the way are processes that write to one, machines that only read it
    (as a sibling's base, say), processes that map it, and the kernel. `stable` files will be read and must not change meanwhile:
    only writers are in the way. A file that does not exist is free. `locks`: try QEMU's locks too; a caller that holds them
    itself passes False. `held` are files that the caller holds; locks are not only tried then: they are held there from then on.
    Raises `HoldersHidden` if some processes can't be seen and the environment asks for certainty.
    """
    writes, reads = _by_key(changed), _by_key(stable)
    concerned.note(name for name, _ in writes.values())
    if locks:
        _take_locks(writes, reads, _try_lock if held is None else held.lock)
    files = {**{key: name for key, (name, _) in reads.items()}, **{key: name for key, (name, _) in writes.items()}}
    if not files:
        return
    looks = 1
    while True:
        sight = look(files, only_writers=reads.keys() - writes.keys(), held=held)
        error = _refusal(files, sight, writes.keys())
        if error is None:
            _report_hidden(sight.hidden, files, change=bool(writes))
            return
        if looks == _LOOKS:
            raise error
        looks += 1
        time.sleep(_PAUSE_SECONDS)  # udev, blkid and losetup open a device just for a moment: look again


def _refusal(files: Mapping[Key, str], sight: Sight, changed: Container[Key]) -> ImageInUse | None:
    for key, name in files.items():
        others, lines = _in_the_way(key, sight, change=key in changed)
        if lines:
            locked = any(holder.locking for holder in others)
            return ImageInUse(name, "write" if locked else "", shared=locked, holders=lines)
    return None


def chain_below(path: PathName) -> list[str]:
    """Returns the backing files of an image, as far as their names can be followed; opening them reports what is wrong."""
    found: list[str] = []
    name = os.fspath(path)
    with contextlib.suppress(OSError, CowherdError):
        while len(found) < MAX_CHAIN and isinstance(head := read_image(name).content, Head) and head.backing:
            below = resolve(name, head.backing)
            name = below.name
            found.append(name)
            if below.format is not None and registry.named(below.format).verbatim:
                break
    return found


def _by_key(files: Iterable[Used]) -> dict[Key, tuple[str, str | None]]:
    """Returns the files that exist, each once, as (name, format); the format is None if the caller gave only a name."""
    found: dict[Key, tuple[str, str | None]] = {}
    for file in files:
        name, image_format = (os.fspath(file), None) if isinstance(file, str | os.PathLike) else (file.filename, file.format)
        with contextlib.suppress(OSError, ValueError):  # a file that does not exist is not in use; opening reports other errors
            info = os.stat(name)
            if stat.S_ISREG(info.st_mode) or stat.S_ISBLK(info.st_mode):
                found.setdefault(key_of(info), (name, image_format))
    return found


def _take_locks(
    changed: Mapping[Key, tuple[str, str | None]],
    stable: Mapping[Key, tuple[str, str | None]],
    lock: Callable[[str, LockMode], None],
) -> None:
    """Takes the locks that the work needs. Raises `ImageInUse`, which names their holders."""
    with naming_holders():
        for name, _ in changed.values():
            lock(name, WRITE)
        for key, (name, image_format) in stable.items():
            if key not in changed:
                lock(name, registry.named(image_format or registry.UNRECOGNISED).lock_to_read)


def _try_lock(name: str, mode: LockMode) -> None:
    HostFile.open(name, lock=mode).close()


def _in_the_way(key: Key, sight: Sight, *, change: bool) -> tuple[list[Holder], list[str]]:
    """Returns the processes that are in the way, and a line for each of them and for each other obstacle."""
    others = [holder for holder in sight.holders.get(key, ()) if holder.writing or (change and _reads_again(holder))]
    lines = [describe(holder) for holder in others]
    lines += [f"the kernel: {use.what}" for use in sight.kernel.get(key, ()) if change or use.writing]
    if key in sight.unseen and (change or sight.unseen[key]):
        how = "writing" if sight.unseen[key] else "reading"
        lines.append(f"a process that is not seen here, or the kernel ({how})")
    return others, lines


def _reads_again(holder: Holder) -> bool:
    """Returns whether a change harms a process that only reads the file: machines and mappings read it again, a backup not."""
    return holder.is_machine or holder.mapped


def _report_hidden(reason: str, files: Mapping[Key, str], *, change: bool) -> None:
    wanted = os.environ.get(REQUIRE_VARIABLE, "")
    if reason and wanted == "1":
        raise HoldersHidden(next(iter(files.values())), reason)
    if reason and change and wanted != "0":
        say(f"holders of these images may be hidden: {reason}; {REQUIRE_VARIABLE}=1 refuses to change anything then")
