"""The images of a libvirt domain, from its XML.

libvirt has written the XML itself; still no entity is expanded and nothing outside of it is fetched.
Source: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms and https://libvirt.org/formatstorage.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from xml.etree import ElementTree
from xml.parsers import expat

from cowherd.live.machine import command_line
from cowherd.live.machine.disk import disks
from cowherd.live.machine.drive import Drive, MachineUnclear
from cowherd.live.machine.extras import QEMU, others
from cowherd.live.machine.settings import Settings, looks_like_image
from cowherd.text import printable

if TYPE_CHECKING:
    from cowherd.paths import PathName

MAX_BYTES = 16 << 20
_DEEPEST = 256
_POOLS = ("/run/libvirt/storage", "/etc/libvirt/storage")
"""The directories of libvirt's XML of running pools, and of defined ones."""
_HOME = "/"
"""The directory in which libvirt runs QEMU."""


def drives_of(xml: bytes, root: PathName = "/") -> tuple[Drive, ...]:
    """Returns the images of a domain's disks, CD-ROMs and floppies, and the other files that it names, in their order.

    Any other text that names an existing file is a drive that is not understood (`unknown`). Pools of volumes are looked up under
    `root`. Raises `MachineUnclear` for XML that is not valid, declares entities, or is larger than `MAX_BYTES`.
    """
    domain = parse_xml(xml)
    if domain.tag != "domain":
        raise MachineUnclear(f"<{printable(domain.tag)}> is no domain", "the domain's XML")
    return drives_in(domain, root)


def parse(xml: bytes) -> ElementTree.Element:
    """Returns the root of any XML that libvirt wrote. Raises as `drives_of`."""
    return parse_xml(xml)


def drives_in(domain: ElementTree.Element, root: PathName = "/") -> tuple[Drive, ...]:
    """Does what `drives_of` does for a domain that is parsed already, or is part of other XML."""
    found = [drive for disk in domain.iterfind("./devices/disk") for drive in drives_of_disk(disk, root)]
    return (*found, *drives_beside_disks(domain))


def drives_of_disk(disk: ElementTree.Element, root: PathName = "/") -> tuple[Drive, ...]:
    """Returns the images of one disk of a domain, its own first."""
    return tuple(disks(disk, _pool_reader(Path(root))))


def drives_beside_disks(domain: ElementTree.Element) -> tuple[Drive, ...]:
    """Returns the other files that a domain names: firmware, memory, logs, and those in options for QEMU."""
    return (*others(domain), *_handed_to_qemu(domain))


def _pool_reader(root: Path) -> Callable[[str], ElementTree.Element | None]:
    """Returns a function that looks up a pool's XML by its name, without calling libvirt, which waits for us."""

    def read(name: str) -> ElementTree.Element | None:
        for place in _POOLS:
            file = root / place.lstrip("/") / f"{name}.xml"
            try:
                described = parse_xml(file.read_bytes())
            except OSError:
                continue  # the pool runs and is not defined, or the other way round
            return described if described.tag == "pool" else described.find("pool")
        return None

    return read


def _handed_to_qemu(domain: ElementTree.Element) -> Iterator[Drive]:
    """Yields the files that <qemu:commandline> and <qemu:override> name."""
    arguments = [argument.get("value", "") for line in _children(domain, "commandline") for argument in _children(line, "arg")]
    yield from command_line.drives_of(arguments, _HOME, user_config=False)
    for line in _children(domain, "commandline"):
        for variable in _children(line, "env"):
            value = variable.get("value", "")
            if value and looks_like_image(Path(_HOME, value)):
                where = f"qemu:env {printable(variable.get('name', ''))}"
                yield Drive(where, Path(_HOME, value), unknown="what QEMU does with this file is not known")
    for override in _children(domain, "override"):
        for device in _children(override, "device"):
            where = f"qemu:override {printable(device.get('alias', ''))}"
            settings = {item.get("name", ""): item.get("value") for item in device.iter(f"{QEMU}property")}
            yield from Settings(Path(_HOME)).drives(where, "device", settings)


def _children(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [child for child in element if child.tag == QEMU + name]


def name_of(xml: bytes) -> str:
    """Returns the domain's name, "" if it has none. Raises as `drives_of`."""
    return parse_xml(xml).findtext("name", "")


def parse_to_rewrite(xml: bytes) -> ElementTree.Element:
    """Does what `parse` does, but keeps prefixes and their declarations, so that the XML can be written again."""
    return parse_xml(xml, separator=None)


def parse_xml(xml: bytes, *, separator: str | None = " ") -> ElementTree.Element:
    """Parses XML without entities: refuses a document type, in which they would be declared.

    `separator` joins a namespace and the name behind it; with None, names stay as they are written. Raises as `drives_of`.
    """
    if len(xml) > MAX_BYTES:
        raise MachineUnclear(f"more than {MAX_BYTES} bytes", "the domain's XML")
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator=separator)
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise MachineUnclear("its elements are nested too deeply", "the domain's XML")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise MachineUnclear(f"not valid XML: {error}", "the domain's XML") from error
    return builder.close()


def _refuse_doctype(*_: object) -> NoReturn:
    raise MachineUnclear("it declares a document type, which libvirt never does", "the domain's XML")
