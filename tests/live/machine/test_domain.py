from __future__ import annotations

import pytest

from cowherd.live.machine.domain import MAX_BYTES, drives_of, name_of
from cowherd.live.machine.drive import Below, MachineUnclear


def domain(*disks: str, os: str = "") -> bytes:
    return f"<domain type='qemu'><name>web</name><os>{os}</os><devices>{''.join(disks)}</devices></domain>".encode()


def disk(source: str, more: str = "", kind: str = "file", device: str = "disk") -> str:
    return f"<disk type='{kind}' device='{device}'><driver name='qemu' type='qcow2'/>{source}<target dev='vda'/>{more}</disk>"


def test_a_disk_s_file_and_format_are_found():
    (drive,) = drives_of(domain(disk("<source file='/srv/o.qcow2'/>")))
    assert (drive.where, str(drive.path), drive.format, drive.writable) == ("vda", "/srv/o.qcow2", "qcow2", True)
    assert (drive.below, drive.ends) == ((), False)


def test_a_block_device_is_found():
    (drive,) = drives_of(domain(disk("<source dev='/dev/vg/lv'/>", kind="block")))
    assert str(drive.path) == "/dev/vg/lv"


@pytest.mark.parametrize(
    "xml",
    [
        disk("<source file='/a'/>", "<readonly/>"),
        disk("<source file='/a'/>", device="cdrom"),
        disk("<source file='/a'/>", "<transient/>"),
    ],
)
def test_what_the_guest_can_t_change_is_not_writable(xml):
    (drive,) = drives_of(domain(xml))
    assert not drive.writable


def test_backing_stores_in_the_xml_are_taken_and_an_empty_one_ends_them():
    store = "<backingStore type='file'><format type='raw'/><source file='/b'/><backingStore/></backingStore>"
    (drive,) = drives_of(domain(disk("<source file='/a'/>", store)))
    assert (len(drive.below), drive.ends) == (1, True)
    assert drive.below[0] == Below(type(drive.path)("/b"), "raw")


@pytest.mark.parametrize(
    ("xml", "remote"),
    [
        (disk("<source protocol='rbd' name='pool/x'/>", kind="network"), "network rbd:pool/x"),
        (disk("", device="cdrom"), "an empty drive"),
        (disk("<source type='pci'/>", kind="nvme"), "nvme"),
        (disk("<source type='unix' path='/run/v'/>", kind="vhostuser"), "vhostuser"),
    ],
)
def test_what_is_no_local_file_is_said_and_has_no_path(xml, remote, tmp_path):
    (drive,) = drives_of(domain(xml), tmp_path)
    assert (drive.path, drive.remote) == (None, remote)


def test_a_volume_is_looked_up_where_libvirt_keeps_its_pools(tmp_path):
    pools = tmp_path / "etc/libvirt/storage"
    pools.mkdir(parents=True)
    (pools / "p.xml").write_text("<pool type='dir'><name>p</name><target><path>/srv/pool</path></target></pool>")
    (drive,) = drives_of(domain(disk("<source pool='p' volume='v.qcow2'/>", kind="volume")), tmp_path)
    assert str(drive.path) == "/srv/pool/v.qcow2"


def test_the_firmware_s_variables_are_a_drive_too():
    drive, template = drives_of(domain(os="<nvram template='/t' format='qcow2'>/srv/vars.fd</nvram>"))
    assert (drive.where, str(drive.path), drive.format) == ("nvram", "/srv/vars.fd", "qcow2")
    assert (str(template.path), template.writable) == ("/t", False)


def names(xml: bytes, **options) -> dict[str, bool]:
    """The files that a domain names and whether they are written to."""
    return {str(drive.path): drive.writable for drive in drives_of(xml, **options) if drive.path and not drive.unknown}


def source(name: str) -> str:
    return f"<source file='{name}'/>"


STORE = f"<backingStore type='file'>{source('/b')}<dataStore type='file'>{source('/f')}</dataStore></backingStore>"
SLICE = "<source file='/f'><slices><slice type='storage' offset='512' size='512'/></slices></source>"
DATA = f"<source file='/o'><dataStore type='file'><format type='raw'/>{source('/f')}</dataStore></source>"

WAYS = {
    "nvdimm": ("<memory model='nvdimm'><source><path>/f</path></source></memory>", True),
    "nvdimm that is read": (
        "<memory model='nvdimm'><source><path>/f</path></source><target><readonly/></target></memory>",
        False,
    ),
    "virtio-pmem": ("<memory model='virtio-pmem'><source><path>/f</path></source></memory>", True),
    "pstore": ("<pstore backend='acpi-erst'><path>/f</path></pstore>", True),
    "share": ("<filesystem><source dir='/f'/><target dir='t'/></filesystem>", True),
    "share that is read": ("<filesystem><source dir='/f'/><target dir='t'/><readonly/></filesystem>", False),
    "share of an image": ("<filesystem type='file'><source file='/f'/><target dir='t'/></filesystem>", True),
    "serial port": ("<serial type='file'><source path='/f'/></serial>", True),
    "log": ("<console type='pty'><log file='/f'/></console>", True),
    "sound": ("<audio id='1' type='file' path='/f'/>", True),
    "network's log": ("<interface type='user'><backend type='passt' logFile='/f'/></interface>", True),
    "network card's firmware": ("<interface type='user'><rom file='/f'/></interface>", False),
    "random numbers": ("<rng model='virtio'><backend model='random'>/f</backend></rng>", False),
    "disk of the host": ("<hostdev mode='capabilities' type='storage'><source><block>/f</block></source></hostdev>", True),
    "directory as a disk": (disk("<source dir='/f'/>", kind="dir"), True),
    "part of a file": (f"<disk><driver type='raw'/>{SLICE}<target dev='vda'/></disk>", True),
    "data file": (disk(DATA), True),
    "data file of a base": (disk(source("/o"), STORE), False),
    "copy being made": (disk(source("/o"), f"<mirror type='file'><format type='qcow2'/>{source('/f')}</mirror>"), True),
    "copy in the older form": (disk(source("/o"), "<mirror file='/f' format='qcow2'/>"), True),
}


@pytest.mark.parametrize(("xml", "writable"), WAYS.values(), ids=WAYS.keys())
def test_each_way_to_name_a_file_is_found(xml, writable):
    assert names(domain(xml))["/f"] is writable


@pytest.mark.parametrize(
    ("os", "writable"),
    [
        ("<kernel>/f</kernel>", False),
        ("<initrd>/f</initrd>", False),
        ("<dtb>/f</dtb>", False),
        ("<acpi><table type='slic'>/f</table></acpi>", False),
        ("<loader readonly='yes' type='pflash'>/f</loader>", False),
        ("<loader readonly='no' type='pflash'>/f</loader>", True),
        ("<nvram type='file'><source file='/f'/></nvram>", True),
    ],
)
def test_firmware_and_kernels_are_found(os, writable):
    assert names(domain(os=os)) == {"/f": writable}


def qemu(inner: str, prefix: str = "qemu") -> bytes:
    return f"<domain xmlns:{prefix}='http://libvirt.org/schemas/domain/qemu/1.0'><devices/>{inner}</domain>".encode()


def test_what_is_handed_to_qemu_is_read_as_its_command_line_whatever_the_prefix():
    arguments = (
        "<q:commandline><q:arg value='-drive'/><q:arg value='file=/f,if=none'/><q:env name='A' value='b'/></q:commandline>"
    )
    assert names(qemu(arguments, "q")) == {"/f": True}


def test_settings_of_devices_that_are_overridden_are_looked_at():
    override = (
        "<qemu:override><qemu:device alias='net0'><qemu:frontend><qemu:property name='romfile' type='string' value='/f'/>"
        "</qemu:frontend></qemu:device></qemu:override>"
    )
    assert names(qemu(override)) == {"/f": False}


def test_a_setting_of_a_device_of_libvirt_s_own_that_names_no_file_passes():
    arguments = "<qemu:commandline><qemu:arg value='-set'/><qemu:arg value='device.hostdev0.x-vga=on'/></qemu:commandline>"
    assert drives_of(qemu(arguments)) == ()


@pytest.mark.parametrize(
    "xml",
    [
        "<devices><new source='{file}'/></devices>",
        "<devices><disk type='vault'><source vault='x'/></disk></devices>",
        "<devices><thing><path>{file}</path></thing></devices>",
        "<devices><disk type='volume'><source pool='none' volume='v'/></disk></devices>",
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:env name='X' value='{image}'/>"
        "</qemu:commandline>",
    ],
)
def test_what_may_name_a_file_and_is_not_known_is_not_understood(xml, tmp_path):
    (tmp_path / "file").write_bytes(bytes(512))
    (tmp_path / "image").write_bytes(b"QFI\xfb" + bytes(508))
    (drive,) = drives_of(f"<domain>{xml.format(file=tmp_path / 'file', image=tmp_path / 'image')}</domain>".encode(), tmp_path)
    assert drive.unknown


def test_an_image_in_a_part_of_a_file_is_not_understood():
    (drive,) = drives_of(domain(disk(SLICE)))
    assert "part of a file" in drive.unknown


def test_what_no_machine_opens_is_not_looked_at(tmp_path):
    (tmp_path / "file").write_bytes(bytes(512))
    xml = f"<domain><metadata><a b='{tmp_path}/file'/></metadata><devices><emulator>{tmp_path}/file</emulator></devices></domain>"
    assert drives_of(xml.encode()) == ()


def test_a_base_behind_a_network_leaves_the_disk_s_own_file_to_be_judged():
    store = "<backingStore type='network'><format type='raw'/><source protocol='nbd' name='x'/></backingStore>"
    (drive,) = drives_of(domain(disk("<source file='/a'/>", store)))
    assert (str(drive.path), drive.below_remote) == ("/a", "network nbd:x")


def test_the_name_is_found():
    assert name_of(domain()) == "web"


@pytest.mark.parametrize(
    ("xml", "problem"),
    [
        (b'<!DOCTYPE d [<!ENTITY a "b">]><domain><name>&a;</name></domain>', "document type"),
        (b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><domain/>', "document type"),
        (b"<domain>", "not valid XML"),
        (b"", "not valid XML"),
        (b"<network/>", "no domain"),
        (b"<domain>" + b"<a>" * 1000, "too deeply"),
        (b" " * (MAX_BYTES + 1), "more than"),
    ],
)
def test_hostile_xml_is_refused(xml, problem):
    with pytest.raises(MachineUnclear, match=problem):
        drives_of(xml)
