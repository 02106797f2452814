"""Where to look for the relatives of some images, as a value: what a scan goes through, in this order."""

from __future__ import annotations

from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Places(NamedTuple):
    """What a scan looks through.

    `directories` says of each directory that was named, or in which an image that was named lies, how many levels below it
    belong to it, None for all. `herds` are looked through with everything under them. `around` are directories around which, and
    below which, is looked within a budget. `pools` are directories of libvirt's pools, `files` single files that may be overlays,
    `devices` block devices that were named as images. All names are absolute.
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
