"""Files that QEMU is given other than as disks; QEMU itself says whether it opens them."""

from __future__ import annotations

import ctypes
import os
import select
import subprocess

import pytest

from cowherd.live.machine.command_line import drives_of

IN_OPEN = 0x20
_libc = ctypes.CDLL(None, use_errno=True)

RAM = "memory-backend-file,id=m,size=1M,mem-path=f"
WAYS = {
    "kernel": (["-kernel", "f"], False),
    "kernel of the machine": (["-machine", "kernel=f"], False),
    "bios": (["-bios", "f"], False),
    "option rom": (["-option-rom", "f"], False),
    "rom of a device": (["-device", "virtio-net-pci,romfile=f"], False),
    "rom of a device as JSON": (["-device", '{"driver": "virtio-net-pci", "romfile": "f"}'], False),
    "rom of all devices of a kind": (["-global", "virtio-net-pci.romfile=f", "-device", "virtio-net-pci"], False),
    "rom that is set": (["-device", "virtio-net-pci,id=n", "-set", "device.n.romfile=f"], False),
    "loader": (["-device", "loader,file=f,addr=0x1000"], False),
    "ACPI table": (["-acpitable", "file=f"], False),
    "SMBIOS": (["-smbios", "file=f"], False),
    "SMBIOS text": (["-smbios", "type=11,path=f"], False),
    "firmware's configuration": (["-fw_cfg", "name=opt/a,file=f"], False),
    "secret": (["-object", "secret,id=s,file=f"], False),
    "random numbers": (["-object", "rng-random,id=r,filename=f", "-device", "virtio-rng-pci,rng=r"], False),
    "memory": (["-object", f"{RAM},share=on"], True),
    "private memory": (["-object", RAM], True),
    "memory that is read": (["-object", f"{RAM},share=off,readonly=on"], False),
    "memory as JSON": (["-object", '{"qom-type": "memory-backend-file", "id": "m", "size": 1048576, "mem-path": "f"}'], True),
    "nvdimm": (
        ["-M", "pc,nvdimm=on", "-m", "16,slots=2,maxmem=64M", "-object", f"{RAM},share=on", "-device", "nvdimm,memdev=m"],
        True,
    ),
    "mem-path": (["-mem-path", "f"], True),
    "character device": (["-chardev", "file,id=c,path=f,append=on"], True),
    "character device that is set": (["-chardev", "file,id=c,path=other", "-set", "chardev.c.path=f"], True),
    "what a character device reads": (["-chardev", "file,id=c,path=other,input-path=f"], False),
    "log of a character device": (["-chardev", "null,id=c,logfile=f,logappend=on"], True),
    "serial port": (["-serial", "file:f"], True),
    "parallel port": (["-parallel", "file:f"], True),
    "second monitor": (["-monitor", "file:f"], True),
    "debug console": (["-debugcon", "file:f"], True),
    "log": (["-D", "f", "-d", "guest_errors"], True),
    "process id": (["-pidfile", "f"], True),
    "network's packets": (["-netdev", "user,id=n", "-object", "filter-dump,id=d,netdev=n,file=f"], True),
    "configuration": (["-readconfig", "memory.conf"], True),
    "trace events": (["-trace", "events=f"], False),
    "incoming": (["-incoming", "file:f"], False),
}


@pytest.fixture
def directory(tmp_path):
    for name in ("f", "kernel"):
        (tmp_path / name).write_bytes(bytes(1 << 20))
    (tmp_path / "memory.conf").write_text('[chardev "c"]\n  backend = "file"\n  path = "f"\n  append = "on"\n')
    return tmp_path


def is_opened(arguments, directory) -> bool:
    """Whether QEMU, run with `arguments`, opens the file `f`."""
    fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    _libc.inotify_add_watch(fd, os.fsencode(directory / "f"), IN_OPEN)
    command = ["qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-m", "16", "-display", "none", "-S", "-nodefaults"]
    with subprocess.Popen([*command, *arguments], cwd=directory, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            select.select([fd, process.stderr], [], [], 60)
            return bool(select.select([fd], [], [], 0.5)[0])
        finally:
            process.kill()
            os.close(fd)


@pytest.mark.qemu("qemu-system-x86_64")
@pytest.mark.parametrize(("arguments", "writable"), WAYS.values(), ids=WAYS.keys())
def test_each_file_that_qemu_opens_is_found(arguments, writable, directory):
    assert is_opened(arguments, directory)
    found = {drive.path: drive.writable for drive in drives_of(arguments, directory) if not drive.unknown}
    assert found[directory / "f"] is writable


@pytest.mark.parametrize(
    ("arguments", "writable"),
    [
        (["-initrd", "f"], False),
        (["-dtb", "f"], False),
        (["-audiodev", "wav,id=a,path=f"], True),
        (["-icount", "shift=1,rr=record,rrfile=f"], True),
        (["-icount", "shift=1,rr=replay,rrfile=f"], False),
        (["-incoming", '{"channel-type": "main", "addr": {"transport": "file", "filename": "f", "offset": 0}}'], False),
        (["-machine", "dumpdtb=f"], True),
        (["-device", "guest-loader,kernel=f,addr=1"], False),
        (["-serial", "mon:pipe:f"], True),
    ],
)
def test_files_that_qemu_opens_only_later_are_found(arguments, writable, directory):
    (drive,) = drives_of(arguments, directory)
    assert (drive.path, drive.writable, drive.unknown) == (directory / "f", writable, "")


def test_firmware_is_also_looked_for_where_the_command_line_says(tmp_path):
    (tmp_path / "library").mkdir()
    (tmp_path / "library/f").write_bytes(bytes(16))
    (drive,) = drives_of(["-bios", "f", "-L", "library"], tmp_path)
    assert drive.path == tmp_path / "library/f"


def test_a_descriptor_that_is_passed_in_is_the_file_that_is_open(directory):
    with (directory / "f").open("rb") as file:
        number = file.fileno()
        for name, more in ((f"/dev/fd/{number}", []), ("/dev/fdset/7", ["-add-fd", f"fd={number},set=7"])):
            (drive,) = drives_of([*more, "-drive", f"file={name},format=raw"], directory)
            assert drive.path == directory / "f"


def test_qemu_s_own_configuration_counts_unless_it_is_told_not_to_read_it(directory, monkeypatch):
    monkeypatch.setattr("cowherd.live.machine.command_line.DEFAULT_CONFIG", str(directory / "memory.conf"))
    assert [drive.path for drive in drives_of([], directory)] == [directory / "f"]
    assert drives_of(["-no-user-config"], directory) == ()


@pytest.mark.parametrize(
    ("arguments", "writable"),
    [
        (["-virtfs", "local,path=d,mount_tag=t,security_model=none"], True),
        (["-fsdev", "local,id=f,path=d,security_model=none,readonly=on"], False),
        (["-fsdev", "local,id=f,path=x,security_model=none", "-set", "fsdev.f.path=d"], True),
        (["-drive", "file=fat:rw:d"], True),
        (["-drive", "file=fat:d"], False),
        (["-blockdev", "driver=vvfat,node-name=v,dir=d,rw=on"], True),
        (["-device", "usb-mtp,rootdir=d"], False),
        (["-nic", "user,smb=d"], True),
    ],
)
def test_directories_that_a_guest_sees_are_found(arguments, writable, tmp_path):
    (drive,) = drives_of(arguments, tmp_path)
    assert (drive.path, drive.writable, drive.unknown) == (tmp_path / "d", writable, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["-new-option", "f"],
        ["-device", "new-device,firmware-image=f"],
        ["-object", "new-object,id=o,store=f"],
        ["-machine", "pc,new-file=f"],
        ["-chardev", "new,id=c,store=f"],
        ["-netdev", "new,id=n,store=f"],
        ["-drive", "driver=new,file.filename=f"],
        ["-drive", "file=new:f"],
        ["-drive", "file=f,format=qcow2,new=on"],
        ["-drive", "driver=qcow2,file.driver=raw,file.offset=512,file.file.filename=f"],
        ["-drive", "driver=qcow2,file.driver=qcow2,file.file.filename=f"],
        ["-drive", "driver=replication,mode=secondary,top-id=t,file.driver=qcow2,file.file.filename=f"],
        ["-drive", "driver=qcow2,file.filename=f,backing.driver=quorum,backing.children.0.file.filename=f"],
        ["-drive", "driver=qcow2,file.filename=f,backing.driver=new"],
        ["-blockdev", '{"driver": "raw", "node-name": "r", "file": {"driver": "file", "filename": "f", "new": 1}}'],
        ["-set", "newgroup.x.y=f"],
        ["-readconfig", "new.conf"],
        ["-usbdevice", "disk:f"],
    ],
    ids=" ".join,
)
def test_what_may_name_a_file_and_is_not_known_is_not_understood(arguments, directory):
    (directory / "new.conf").write_text('[newgroup "n"]\n  file = "f"\n')
    assert [drive for drive in drives_of(arguments, directory) if drive.unknown]


@pytest.mark.parametrize(
    "arguments",
    [
        "-m 2G -smp 4 -cpu host,migratable=off -enable-kvm -nographic -boot order=c,menu=on -rtc base=utc -name web,process=qemu",
        "-M q35,accel=kvm,smm=on,usb=off -global ICH9-LPC.disable_s3=1 -global kvm-pit.lost_tick_policy=delay -uuid f -k de",
        "-netdev user,id=n,hostfwd=tcp::2222-:22 -device virtio-net-pci,netdev=n,mac=52:54:00:12:34:56 -nic none -vnc :1",
        "-device virtio-scsi-pci,id=s -device virtio-rng-pci -device usb-tablet -device qxl-vga,vgamem_mb=32 -vga none",
        "-chardev socket,id=m,path=/run/none.sock,server=on,wait=off -mon chardev=m,mode=control -monitor none -serial mon:stdio",
        "-object memory-backend-memfd,id=mem,size=2G,share=on -numa node,memdev=mem -object iothread,id=io",
        "-sandbox on,obsolete=deny -msg timestamp=on -no-user-config -nodefaults -no-shutdown -overcommit mem-lock=off -S",
        "-display gtk,gl=on -spice port=5900,disable-ticketing=on -audiodev none,id=a -device hda-duplex,audiodev=a",
        "-device vfio-pci,host=0000:01:00.0,x-vga=on -set device.hostdev0.x-vga=on -incoming tcp:0:4444 -loadvm start",
    ],
)
def test_machines_as_people_start_them_are_understood(arguments, tmp_path):
    assert [drive for drive in drives_of(arguments.split(), tmp_path) if drive.unknown or not drive.plain] == []
