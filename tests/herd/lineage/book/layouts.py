"""Hosts as people have them: where bases lie, and where the machines' overlays do."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.herd.qemu_herd import make_base, make_overlay, noise, write

CONTENT = noise(4 * 65536)


class Host(NamedTuple):
    """A base, the name by which somebody asks for it, and the overlays of two machines, the first of which is at hand."""

    base: Path
    asked: Path
    first: Path
    second: Path


def _made(
    base: Path, first: Path, second: Path, *, asked: Path | None = None, name: Callable[[Path], str | Path] | None = None
) -> Host:
    for path in (base, first, second):
        path.parent.mkdir(parents=True, exist_ok=True)
    make_base(base, CONTENT)
    for number, overlay in enumerate((first, second)):
        make_overlay(overlay, name(overlay) if name else base)
        write(overlay, f"write -P {number + 7} {64 * number}k 64k")
    return Host(base, asked or base, first, second)


def nova(home: Path) -> Host:
    """/var/lib/nova/instances: bases in _base, each machine in a directory of its own."""
    return _made(home / "_base" / "5f3c", home / "1b7d" / "disk", home / "9e02" / "disk")


def proxmox(home: Path) -> Host:
    """images/VMID: a template and linked clones, which name it relative to themselves."""
    images = home / "images"
    return _made(
        images / "100" / "base-100-disk-0.qcow2",
        images / "101" / "vm-101-disk-0.qcow2",
        images / "102" / "vm-102-disk-0.qcow2",
        name=lambda _: "../100/base-100-disk-0.qcow2",
    )


def multipass(home: Path) -> Host:
    """vault/images/NAME and vault/instances/NAME."""
    vault = home / "vault"
    return _made(vault / "images" / "jammy" / "u.img", vault / "instances" / "a" / "u.img", vault / "instances" / "b" / "u.img")


def libvirt(home: Path) -> Host:
    """images/base and the machines right in images."""
    return _made(home / "images" / "base" / "golden.qcow2", home / "images" / "web.qcow2", home / "images" / "db.qcow2")


def beside(home: Path) -> Host:
    """One overlay beside the base, the other in the machines' directory."""
    return _made(home / "bases" / "b.qcow2", home / "vms" / "web.qcow2", home / "bases" / "db.qcow2")


def below(home: Path) -> Host:
    """Machines some levels below the base."""
    return _made(home / "b.qcow2", home / "site" / "rack" / "one" / "a.qcow2", home / "site" / "rack" / "two" / "b.qcow2")


def hard_linked(home: Path) -> Host:
    """The base has a name in another directory, by which somebody asks for it."""
    host = _made(home / "bases" / "b.qcow2", home / "vms" / "a.qcow2", home / "vms" / "b.qcow2")
    (home / "published").mkdir()
    (home / "published" / "b.qcow2").hardlink_to(host.base)
    return host._replace(asked=home / "published" / "b.qcow2")


def linked(home: Path) -> Host:
    """The base is asked for by a symbolic link, and the machines' directories are links to another disk."""
    (home / "store").mkdir(parents=True)
    for name in ("one", "two"):
        (home / "fast" / name).mkdir(parents=True)
        (home / "store" / name).symlink_to(home / "fast" / name)
    host = _made(home / "store" / "_base" / "b", home / "store" / "one" / "disk", home / "store" / "two" / "disk")
    (home / "links").mkdir()
    (home / "links" / "golden").symlink_to(host.base)
    return host._replace(asked=home / "links" / "golden")


LAYOUTS: tuple[Callable[[Path], Host], ...] = (nova, proxmox, multipass, libvirt, beside, below, hard_linked, linked)


@contextlib.contextmanager
def mounted(*arguments: str | os.PathLike[str]) -> Iterator[None]:
    """Mounts something while the block runs: `arguments` are those of mount(8), the last one the directory."""
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", arguments[-1]], check=True, capture_output=True)


@contextlib.contextmanager
def bind_mounted(home: Path) -> Iterator[Host]:
    """The bases are seen a second time, far from the machines, and asked for there."""
    host = nova(home / "instances")
    seen = home / "far" / "away" / "bases"
    seen.mkdir(parents=True)
    with mounted("--bind", host.base.parent, seen):
        yield host._replace(asked=seen / host.base.name)


@contextlib.contextmanager
def mounted_twice(home: Path) -> Iterator[Host]:
    """The file system of all is mounted on two directories; overlays name the base in one, it is asked for in the other."""
    disk, one, other = home / "disk", home / "a" / "one", home / "b" / "other"
    home.mkdir(exist_ok=True)
    one.mkdir(parents=True)
    other.mkdir(parents=True)
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", disk], check=True, capture_output=True)
    with mounted("-o", "loop", disk, one):
        host = proxmox(one)
        device = subprocess.run(["findmnt", "-no", "SOURCE", one], check=True, capture_output=True, text=True).stdout.strip()
        with mounted(device, other):
            yield host._replace(asked=other / host.base.relative_to(one))


@contextlib.contextmanager
def other_file_system(home: Path) -> Iterator[Host]:
    """The machines lie on a faster file system that is mounted beside the base."""
    fast = home / "fast"
    fast.mkdir(parents=True)
    with mounted("-t", "tmpfs", "none", fast):
        yield _made(home / "bases" / "b.qcow2", fast / "vms" / "a.qcow2", fast / "vms" / "b.qcow2")


MOUNTED = (bind_mounted, mounted_twice, other_file_system)
