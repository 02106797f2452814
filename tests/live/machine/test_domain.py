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
        (disk("<source pool='p' volume='v'/>", kind="volume"), "volume v of the pool p"),
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
    (drive,) = drives_of(domain(os="<nvram template='/t' format='qcow2'>/srv/vars.fd</nvram>"))
    assert (drive.where, str(drive.path), drive.format) == ("nvram", "/srv/vars.fd", "qcow2")


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
