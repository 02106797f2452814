"""Which machines run on the images of a herd at this moment, by one look at the descriptors of the host's processes."""

from __future__ import annotations

import contextlib
import os

from cowherd.live.glance import NOTHING_SEEN, glance_at
from cowherd.live.holders import PROC
from cowherd.live.kernel_holders import BLOCK_DEVICE, FILE, key_of
from cowherd.live.owners import unit_of_process
from cowherd.text import counted
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.live import kernel_holders
    from cowherd.live.glance import Glance
    from cowherd.live.holders import Holder

_TOOLS = frozenset(("qemu-img", "qemu-io"))
"""Programs of QEMU's that work on an image for a time, and run nothing."""


class Machine(NamedTuple):
    """A machine, or a program that serves disks, on an image; `unit` is the systemd unit that it runs in, None if unknown."""

    holder: Holder
    unit: str | None

    @property
    def name(self) -> str:
        """The machine's name, or that of its program if it has none; escaped."""
        return self.holder.machine or self.holder.command

    def describe(self) -> str:
        """Returns its name and process, as in `web (pid 4711)`."""
        return f"{self.name} (pid {self.holder.pid})"

    def to_json(self) -> dict[str, Any]:
        """Returns plain values: `domain` is its name if libvirt started it, `since` is in seconds since 1970."""
        holder = self.holder
        return {
            "pid": holder.pid,
            "command": holder.command,
            "user": holder.user or None,
            "unit": self.unit,
            "machine": holder.machine or None,
            "domain": (holder.machine or None) if holder.is_domain else None,
            "since": holder.since,
            "writing": holder.writing,
        }


class Runs(NamedTuple):
    """What runs on a herd. Nothing here says that nothing runs on an image: machines may be hidden, or run on another host.

    `machines` are those on each image, `overlays` the number of overlays of each base that machines run on, at any depth;
    `glance` is what was seen of all files, where keys of block devices are their numbers.
    """

    machines: dict[Key, tuple[Machine, ...]]
    overlays: dict[Key, int]
    glance: Glance
    devices: dict[kernel_holders.Key, Key]

    @property
    def hidden(self) -> int:
        """The number of machines that this user may not look into."""
        return self.glance.hidden

    def key_of(self, key: kernel_holders.Key) -> Key:
        """Returns the lineage's key of a file that somebody has open."""
        return self.devices.get(key) or key[1:]


NOTHING_RUNS = Runs({}, {}, NOTHING_SEEN, {})


def in_words(machines: Sequence[Machine], overlays: int, dependents: int, *, hidden: int) -> str:
    """Returns which machines run on an image, and on how many of its dependents; "" if none is seen.

    `hidden` is the number of machines that may run on others.
    """
    said = [f"running: {', '.join(machine.describe() for machine in machines)}"] if machines else []
    if overlays:
        noun, verb = "overlay" if dependents == 1 else "overlays", "runs" if overlays == 1 else "run"
        said.append(f"{'at least ' if hidden else ''}{overlays} of {dependents} {noun} {verb}")
    return "; ".join(said)


def hidden_in_words(hidden: int) -> str:
    """Returns what it means that this user may not look into `hidden` machines."""
    return f"{counted(hidden, 'machine')} may not be looked into by this user, and may run on any of these images; ask as root"


def running_on(lineage: Lineage) -> Runs:
    """Returns which machines run on the images of a lineage. Without a /proc, none is seen."""
    return look_at(lineage, only_machines=True) if os.path.isdir(PROC) else NOTHING_RUNS


def look_at(lineage: Lineage, *, only_machines: bool) -> Runs:
    """Does so, and unless `only_machines` looks through all processes. Raises `HostFileError` if there is no /proc."""
    devices = _devices(lineage)
    seen = Runs({}, {}, glance_at(_Files(lineage, devices), only_machines=only_machines), devices)
    for image, holder in _tops(lineage, seen):
        if image.key not in seen.machines:
            for key in _below(lineage, image):
                seen.overlays[key] = seen.overlays.get(key, 0) + 1
        machine = Machine(holder, unit_of_process(holder.pid))
        seen.machines[image.key] = (*seen.machines.get(image.key, ()), machine)
    return seen


class _Files:
    """The keys of the files of a herd, as a container that holds no key of its own: herds may have very many images."""

    def __init__(self, lineage: Lineage, devices: dict[kernel_holders.Key, Key]):
        self._images, self._devices = lineage.images, devices

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and ((key[0] == FILE and key[1:] in self._images) or key in self._devices)


def _devices(lineage: Lineage) -> dict[kernel_holders.Key, Key]:
    """Returns the block devices among the images: the lineage knows them by their nodes, and processes have others open."""
    found: dict[kernel_holders.Key, Key] = {}
    for image in lineage.strays:
        with contextlib.suppress(OSError, ValueError):  # it is gone, which others report
            key = key_of(os.stat(image.filename))
            if key[0] == BLOCK_DEVICE:
                found[key] = image.key
    return found


def _tops(lineage: Lineage, seen: Runs) -> Iterator[tuple[Image, Holder]]:
    """Yields the images that machines run on, each with its machine: of a chain that one has open, the uppermost."""
    opened: dict[int, dict[Key, Holder]] = {}
    for key, holders in seen.glance.holders.items():
        for holder in holders:
            if holder.pid in seen.glance.machines and holder.command not in _TOOLS:
                opened.setdefault(holder.pid, {})[seen.key_of(key)] = holder
    for images in opened.values():
        below = {part.key for key in images for part in _right_below(lineage, lineage.images[key])}
        yield from ((lineage.images[key], holder) for key, holder in images.items() if key not in below)


def _right_below(lineage: Lineage, image: Image) -> list[Image]:
    base = lineage.parent(image)
    return [*lineage.parts(image), *([base] if base else [])]


def _below(lineage: Lineage, image: Image) -> set[Key]:
    """Returns the images that an image depends on, at any depth."""
    return {below.key for one in lineage.chain(image) for below in _right_below(lineage, one)} - {image.key}
