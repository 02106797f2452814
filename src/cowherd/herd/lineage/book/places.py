"""Where to look for the relatives of some images, as a value: what a scan goes through, in this order."""

from __future__ import annotations

from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Places(NamedTuple):
    """What a scan looks through.

    `directories` maps each directory that was named, or in which a named image lies, to the number of levels below it that belong
    to it, None for all. `herds` are searched with everything under them. The search goes around and below the directories
    `around`, within a budget. `pools` are directories of libvirt's pools, `files` single files that may be overlays, `devices`
    block devices that were named as images. All names are absolute.
    """

    directories: Mapping[str, int | None]
    herds: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


class Unseen(NamedTuple):
    """A place in which overlays of `base` are known to lie, and why nobody can look there. `example` is one of them, or ""."""

    base: str
    place: str
    problem: str
    example: str = ""
