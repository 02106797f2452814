"""Finds the files that libvirt's records name, from its own XML files. Calls libvirt itself (`libvirt_daemon`) only if this user
may not read the files of the system's daemon: in its hook, libvirt waits for us.

The records are domains that are defined (also when they are shut off), domains that run, their saved memory, their snapshots and
checkpoints, and storage pools; of the system's daemon and of this user's own.
Source: https://libvirt.org/formatdomain.html, formatsnapshot.html, formatcheckpoint.html, formatstorage.html, and the directories
in libvirt's src/qemu/qemu_conf.c. `COWHERD_LIBVIRT_ROOT` names a directory under which all of them lie, as in a container.
"""

from __future__ import annotations

import os

from cowherd.storage.presence import GONE
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from xml.etree.ElementTree import Element

    from cowherd.live.libvirt_daemon import Told
    from cowherd.paths import PathName

ROOT_VARIABLE = "COWHERD_LIBVIRT_ROOT"
_SNAPSHOT, _CHECKPOINT = "snapshot", "checkpoint"
_NAMES = rb"""\b(?:file|dev)=(?:'([^']*)'|"([^"]*)")|<nvram[^>]*>([^<]*)<"""
_MAX_BYTES = 16 << 20


class DomainDisk(NamedTuple):
    """A file that a domain's XML names.

    `target` is the guest's name of the disk ("vda"; "nvram" for the firmware's variables), escaped for printing. `path` is
    absolute; `writable` says that the guest's writes go there. `backing` are the other files that the XML names for this disk:
    backing files, data files, and the target of a copy. `running` says that the running machine's XML names it, not only the XML
    for the next start.
    """

    target: str
    path: str
    writable: bool
    backing: tuple[str, ...] = ()
    running: bool = False


class NamedFile(NamedTuple):
    """A file that a snapshot or checkpoint names: its path, and its role ("snapshot NAME, vda"), escaped for printing."""

    path: str
    role: str


class DomainRecord(NamedTuple):
    """libvirt's records of one domain. `name` is as libvirt has it; apply `printable` before printing.

    `persistent` says that it is defined, `active` that it runs. `managed_save` is the file of its saved memory, None if there is
    none. `snapshots` are the files that its snapshots name: overlays, memory, and the disks that a revert returns to;
    `checkpoints` are those of its checkpoints. `session` says that it belongs to this user's daemon and not to the system's.
    """

    name: str
    uuid: str
    persistent: bool
    active: bool
    disks: tuple[DomainDisk, ...]
    managed_save: str | None = None
    snapshots: tuple[NamedFile, ...] = ()
    checkpoints: tuple[NamedFile, ...] = ()
    session: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file that the records name, in any role."""
        disks = [path for disk in self.disks for path in (disk.path, *disk.backing)]
        return tuple(dict.fromkeys((*disks, *(file.path for file in (*self.snapshots, *self.checkpoints)))))


class Records(NamedTuple):
    """libvirt's records on this host.

    `pools` are storage pools with a directory: (name, target path). `unreadable` are files and directories that can't be read or
    make no sense, so that the files that they name are not known.
    """

    domains: tuple[DomainRecord, ...] = ()
    pools: tuple[tuple[str, str], ...] = ()
    unreadable: tuple[str, ...] = ()


class _Places(NamedTuple):
    """The directories of one daemon."""

    top: str
    defined: str
    running: str
    state: str
    pools: tuple[str, ...]
    session: bool


def read_records(root: PathName | None = None) -> Records:
    """Reads libvirt's files under `root` (by default that of `COWHERD_LIBVIRT_ROOT`, or the host's own). Raises nothing.

    If libvirt is not installed, this costs a stat(2) for each place; the parser is loaded only if there is some XML.
    """
    top = os.fspath(root) if root is not None else os.environ.get(ROOT_VARIABLE, "/")
    reader = _Reader(top)
    for places in all_places(top):
        reader.read(places)
    return Records(tuple(reader.domains), tuple(dict.fromkeys(reader.pools)), tuple(reader.unreadable))


def records_naming(is_wanted: Callable[[str], bool], root: PathName | None = None) -> Records:
    """Does the same for the domains that name a path for which `is_wanted` returns True, in any role; leaves out the others.

    Parses only the files that name one, so that a thousand domains take no longer than reading their files.
    """
    top = os.fspath(root) if root is not None else os.environ.get(ROOT_VARIABLE, "/")
    reader = _Reader(top)
    for places in all_places(top):
        reader.read(places, _Sifter(is_wanted).domains(places))
    return Records(tuple(reader.domains), tuple(dict.fromkeys(reader.pools)), tuple(reader.unreadable))


class _Sifter:
    """Finds the domains that may name a path, by the text of their files and of their snapshots."""

    def __init__(self, is_wanted: Callable[[str], bool]):
        self._is_wanted = is_wanted

    def domains(self, places: _Places) -> set[str]:
        found = set()
        for directory in (places.defined, places.running):
            found |= {name.removesuffix(".xml") for name in xml_in(directory) if self._mentions(f"{directory}/{name}")}
        for sort in (_SNAPSHOT, _CHECKPOINT):
            top = f"{places.state}/{sort}"
            for name in listed(top):
                if any(self._mentions(f"{top}/{name}/{file}") for file in xml_in(f"{top}/{name}")):
                    found.add(name)
        return found

    def _mentions(self, path: str) -> bool:
        """Returns whether a file names a wanted path, or may: it names a volume, which must be looked up, or can't be read."""
        import re
        from xml.sax.saxutils import unescape

        try:
            with open(path, "rb") as file:
                text = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        names = {next(filter(None, groups), b"") for groups in re.findall(_NAMES, text)}
        plain = (unescape(os.fsdecode(name.strip()), {"&apos;": "'", "&quot;": '"'}) for name in names)
        return b" volume=" in text or any("&#" in name or self._is_wanted(name) for name in plain if name.startswith(("/", "&#")))


def listed(directory: str) -> list[str]:
    """Returns the names in a directory, none if it can't be listed."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []  # it is not there, or the reader says that it can't be read


def xml_in(directory: str) -> list[str]:
    """Returns the names of the XML files right in a directory."""
    return [name for name in listed(directory) if name.endswith(".xml")]


def all_places(root: str) -> list[_Places]:
    """Returns the places of the system's daemon and of this user's own, as far as they exist."""
    found = [
        _Places(
            top="/etc/libvirt",
            defined="/etc/libvirt/qemu",
            running="/run/libvirt/qemu",
            state="/var/lib/libvirt/qemu",
            pools=("/etc/libvirt/storage", "/run/libvirt/storage"),
            session=False,
        )
    ]
    configuration = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    found.append(
        _Places(
            top=f"{configuration}/libvirt",
            defined=f"{configuration}/libvirt/qemu",
            running=f"{runtime}/libvirt/qemu/run",
            state=f"{configuration}/libvirt/qemu",
            pools=(f"{configuration}/libvirt/storage", f"{runtime}/libvirt/storage/run"),
            session=True,
        )
    )
    return [
        places for places in (_under(root, one) for one in found) if os.path.isdir(places.top) or os.path.isdir(places.running)
    ]


def _under(root: str, places: _Places) -> _Places:
    def at(path: str) -> str:
        return path if root == "/" else root.rstrip("/") + os.path.abspath(path)

    return _Places(
        at(places.top), at(places.defined), at(places.running), at(places.state), tuple(map(at, places.pools)), places.session
    )


class _Reader:
    """Collects the records in the files, and the files that can't be read."""

    def __init__(self, root: str):
        self._root = root
        self.domains: list[DomainRecord] = []
        self.pools: list[tuple[str, str]] = []
        self.unreadable: list[str] = []

    def read(self, places: _Places, only: Container[str] | None = None) -> None:
        """Reads one daemon's files, or `only` those of some domains. A domain that is defined and runs is one record, with the
        disks of both."""
        known = len(self.unreadable)
        defined = self._domains(places.defined, only, running=False)
        running = self._domains(places.running, only, running=True)
        if not places.session and self._root == "/" and len(self.unreadable) > known:
            from cowherd.live.libvirt_daemon import ask

            told = ask()
            if told:
                del self.unreadable[known:]
                self.take(told, places.state)
                return
        for name in dict.fromkeys([*defined, *running]):
            uuid, disks = defined.get(name) or running[name]
            saved = f"{places.state}/save/{name}.save"
            self.domains.append(
                DomainRecord(
                    name=name,
                    uuid=uuid,
                    persistent=name in defined,
                    active=name in running,
                    disks=(*(running[name][1] if name in running else ()), *(disks if name in defined else ())),
                    managed_save=saved if os.path.exists(saved) else None,
                    snapshots=self._named_under(places, _SNAPSHOT, name),
                    checkpoints=self._named_under(places, _CHECKPOINT, name),
                    session=places.session,
                )
            )
        for directory in places.pools:
            for path, element in self._documents(directory):
                self._add_pool(path, element)

    def take(self, told: Told, state: str) -> None:
        """Adds the answer of a daemon that keeps its state in the directory `state`."""
        for one in told.domains:
            self.domains.append(
                DomainRecord(
                    name=one.name,
                    uuid=one.uuid,
                    persistent=one.defined is not None,
                    active=one.running is not None,
                    disks=(*self._disks_told(one.name, one.running, running=True), *self._disks_told(one.name, one.defined)),
                    managed_save=f"{state}/save/{one.name}.save" if one.saved else None,
                    snapshots=_named(self._parsed_all(one.name, one.snapshots), _SNAPSHOT),
                    checkpoints=_named(self._parsed_all(one.name, one.checkpoints), _CHECKPOINT),
                )
            )
        for element in self._parsed_all("a storage pool", told.pools):
            self._add_pool("a storage pool", element)

    def _disks_told(self, name: str, text: str | None, *, running: bool = False) -> tuple[DomainDisk, ...]:
        return tuple(
            disk for element in self._parsed_all(name, [text] if text else []) for disk in self._disks(element, running=running)
        )

    def _parsed_all(self, whose: str, texts: Iterable[str]) -> Iterator[Element]:
        from cowherd.live.machine.domain import parse
        from cowherd.live.machine.drive import MachineUnclear

        for text in texts:
            try:
                yield parse(text.encode())
            except MachineUnclear:
                self.unreadable.append(f"libvirt's description of {printable(whose)}")

    def _domains(
        self, directory: str, only: Container[str] | None, *, running: bool
    ) -> dict[str, tuple[str, tuple[DomainDisk, ...]]]:
        found = {}
        for path, element in self._documents(directory, only):
            domain = element if element.tag == "domain" else element.find("domain")
            name = domain.findtext("name") if domain is not None else None
            if domain is None or not name or "/" in name:
                self.unreadable.append(path)
                continue
            found[name] = domain.findtext("uuid", ""), self._disks(domain, running=running)
        return found

    def _disks(self, domain: Element, *, running: bool) -> tuple[DomainDisk, ...]:
        from cowherd.live.machine.domain import drives_beside_disks, drives_of_disk

        found = []
        for element in domain.iterfind("./devices/disk"):
            drive = next(iter(drives_of_disk(element, self._root)))  # what follows are its data files and the like
            path = os.fspath(drive.path) if drive.path else None
            others = tuple(other for other in _sources(element) if other != path)
            if path or others:
                found.append(DomainDisk(drive.where, path or others[0], drive.writable, others, running))
        beside = [drive for drive in drives_beside_disks(domain) if drive.path]
        return (*found, *(DomainDisk(one.where, os.fspath(one.path), one.writable, (), running) for one in beside if one.path))

    def _named_under(self, places: _Places, sort: str, domain: str) -> tuple[NamedFile, ...]:
        return _named((element for _, element in self._documents(f"{places.state}/{sort}/{domain}")), sort)

    def _add_pool(self, path: str, element: Element) -> None:
        pool = element if element.tag == "pool" else element.find("pool")
        name, target = (pool.findtext("name"), pool.findtext("./target/path")) if pool is not None else (None, None)
        if pool is None or not name:
            self.unreadable.append(path)
        elif target:
            self.pools.append((name, os.path.abspath(target)))

    def _documents(self, directory: str, only: Container[str] | None = None) -> list[tuple[str, Element]]:
        """Returns the XML files right in a directory, parsed; with `only`, those of these names."""
        found = []
        try:
            names = sorted(name for name in os.listdir(directory) if name.endswith(".xml"))
        except OSError as error:
            self.unreadable += [] if error.errno in GONE else [directory]
            return []
        for name in names:
            if only is not None and name.removesuffix(".xml") not in only:
                continue
            path = f"{directory}/{name}"
            element = self._parsed(path)
            found += [(path, element)] if element is not None else []
        return found

    def _parsed(self, path: str) -> Element | None:
        from cowherd.live.machine.domain import MAX_BYTES, parse
        from cowherd.live.machine.drive import MachineUnclear

        try:
            with open(path, "rb") as file:
                return parse(file.read(MAX_BYTES + 1))
        except FileNotFoundError:
            return None  # it was undefined meanwhile
        except (OSError, MachineUnclear):
            self.unreadable.append(path)
            return None


def _named(elements: Iterable[Element], sort: str) -> tuple[NamedFile, ...]:
    """Returns the files that snapshots or checkpoints name: their own disks, and those of the domain as it was then."""
    found = []
    for element in elements:
        name = element.findtext("name", "")
        memory = element.find("memory")
        if memory is not None and memory.get("file"):
            found.append(NamedFile(os.path.abspath(memory.get("file", "")), printable(f"{sort} {name}, memory")))
        for disk in element.iter("disk"):
            target = disk.find("target")
            called = disk.get("name") or (target.get("dev", "disk") if target is not None else "disk")
            found += [NamedFile(path, printable(f"{sort} {name}, {called}")) for path in _sources(disk)]
    return tuple(dict.fromkeys(found))


def _sources(disk: Element) -> list[str]:
    """Returns every local file that a disk's XML names: its source, backing files, data files, and the target of a copy."""
    named = [source.get("file") or source.get("dev") for source in disk.iter("source")]
    return [os.path.abspath(name) for name in dict.fromkeys(named) if name]
