from __future__ import annotations

import contextlib
import json
import os
import subprocess

import pytest

from cowherd.errors import HostFileError
from cowherd.herd.gate.startup import _backing, _images, check_start
from cowherd.herd.lineage.survey import survey_chains
from cowherd.live.machine import table
from cowherd.live.machine.command_line import drives_of, program_at, started_in
from cowherd.live.machine.drive import Below, MachineUnclear
from tests.herd.qemu_herd import make_base, make_overlay, noise
from tests.qemu import Tool
from tests.qmp import open_files, waiting_machine

qemu_img = Tool("qemu-img")
BLOCKDEV = "driver=qcow2,file.driver=file,file.filename=o.qcow2,node-name=disk"
NESTED = {"driver": "qcow2", "file": {"driver": "file", "filename": "o.qcow2"}, "read-only": True, "node-name": "disk"}
NAMED = {
    "driver": "qcow2",
    "node-name": "disk",
    "file": "own",
    "backing": {"driver": "qcow2", "file": {"driver": "file", "filename": "other"}},
}
OVERLAY = {"driver": "qcow2", "file": {"driver": "file", "filename": "o.qcow2"}}
OTHER = {"driver": "qcow2", "node-name": "n", "file": {"driver": "file", "filename": "other"}}
QUORUM = {"driver": "quorum", "node-name": "q", "vote-threshold": 1, "children": ["n"]}
VOTE = "driver=quorum,vote-threshold=1"
GROUP = ("-object", "throttle-group,id=t,x-iops-total=100")
FLASH = "driver=raw,node-name=f,read-only=on,file.driver=file,file.filename=flash"


def under(key: str, name: str) -> str:
    """A qcow2 image as the child `key` of a node."""
    return f"{key}.driver=qcow2,{key}.file.driver=file,{key}.file.filename={name}"


JSON_NAME = 'json:{"driver": "qcow2", "file": {"driver": "file", "filename": "o.qcow2"}}'

COMMAND_LINES = {
    "plain name": ["o.qcow2"],
    "hda": ["-hda", "o.qcow2"],
    "two dashes": ["--hda", "o.qcow2"],
    "cdrom": ["-cdrom", "plain"],
    "floppy": ["-drive", "if=floppy,file=plain,format=raw"],
    "drive": ["-drive", "file=o.qcow2,if=virtio,cache=none"],
    "drive with format": ["-drive", "file=o.qcow2,format=qcow2,if=none,id=a"],
    "drive read-only": ["-drive", "file=o.qcow2,if=virtio,read-only=on"],
    "drive as raw": ["-drive", "file=base.qcow2,format=raw,if=virtio"],
    "media=cdrom": ["-drive", "file=plain,media=cdrom"],
    "comma in a name": ["-drive", "file=odd,,name,if=virtio,format=raw"],
    "file: in front": ["-drive", "file=file:o.qcow2,if=virtio"],
    "file.filename": ["-drive", "driver=qcow2,file.filename=o.qcow2,if=virtio"],
    "file with switches": ["-drive", "file.filename=o.qcow2,file.locking=off,if=virtio"],
    "json name": ["-drive", "file=" + JSON_NAME.replace(",", ",,") + ",if=virtio"],
    "other base": ["-drive", "file=o.qcow2,if=virtio,backing.driver=qcow2,backing.file.filename=other"],
    "switch for the base": ["-drive", "file=o.qcow2,if=virtio,backing.file.locking=off"],
    "blockdev": ["-blockdev", BLOCKDEV],
    "blockdev as JSON": ["-blockdev", json.dumps(NESTED)],
    "blockdev without base": ["-blockdev", json.dumps({**NESTED, "backing": None})],
    "blockdev of nodes": ["-blockdev", "file,node-name=own,filename=o.qcow2", "-blockdev", json.dumps(NAMED)],
    "filter": ["-blockdev", json.dumps({"driver": "copy-on-read", "node-name": "top", "file": {**NESTED, "read-only": False}})],
    "raw file alone": ["-blockdev", "driver=file,filename=plain,node-name=f"],
    "pflash": ["-drive", "if=pflash,file=flash,format=raw,read-only=on"],
    "readconfig": ["-readconfig", "machine.conf"],
    "options with arguments": ["-name", "x.qcow2", "-no-reboot", "o.qcow2", "-boot", "order=c"],
    "two": ["-hda", "o.qcow2", "-hdb", "other"],
    "set": ["-drive", "if=none,id=d0", "-set", "drive.d0.file=o.qcow2"],
    "set twice": ["-drive", "if=none,id=d0,file=plain", "-set", "drive.d0.file=other", "-set", "drive.d0.file=o.qcow2"],
    "set a format": ["-drive", "if=none,id=d0,file=base.qcow2", "-set", "drive.d0.format=raw"],
    "set nested": ["-drive", "if=none,id=d0,driver=qcow2", "-set", "drive.d0.file.filename=o.qcow2"],
    "set in a configuration's drive": ["-readconfig", "machine.conf", "-set", "drive.d.file=other"],
    "a key twice": ["-drive", "file=other,if=none,file=o.qcow2"],
    "hdd": ["-hdd", "o.qcow2"],
    "fda": ["-fda", "plain"],
    "pflash alone": ["-pflash", "flash"],
    "raw over qcow2": ["-drive", f"if=none,driver=raw,{under('file', 'o.qcow2')}"],
    "raw over qcow2 as a node": ["-blockdev", f"driver=raw,node-name=d,{under('file', 'o.qcow2')}"],
    "raw over raw": ["-drive", "if=none,driver=raw,file.driver=raw,file.file.filename=o.qcow2"],
    "qcow2 over raw": ["-drive", "if=none,driver=qcow2,file.driver=raw,file.file.driver=file,file.file.filename=o.qcow2"],
    "guessed over raw": ["-drive", "if=none,file.driver=raw,file.file.filename=o.qcow2"],
    "part of a file": ["-drive", "if=none,driver=raw,offset=512,size=1024,file.filename=plain"],
    "part of a qcow2": ["-drive", f"if=none,driver=raw,offset=512,{under('file', 'o.qcow2')}"],
    "throttle": [*GROUP, "-drive", "if=none,driver=qcow2,file.driver=throttle,file.throttle-group=t,file.file.filename=o.qcow2"],
    "throttle above bytes": [*GROUP, "-drive", "if=none,driver=throttle,throttle-group=t,file.filename=o.qcow2"],
    "throttle above": [*GROUP, "-drive", f"if=none,driver=throttle,throttle-group=t,{under('file', 'o.qcow2')}"],
    "copy-on-read": ["-drive", f"if=none,driver=copy-on-read,{under('file', 'o.qcow2')}"],
    "copy-on-read switch": ["-drive", "if=virtio,copy-on-read=on,file=o.qcow2"],
    "preallocate": ["-drive", "if=none,driver=qcow2,file.driver=preallocate,file.file.filename=o.qcow2"],
    "compress": ["-blockdev", f"driver=compress,node-name=d,{under('file', 'o.qcow2')}"],
    "blkdebug prefix": ["-drive", "if=none,file=blkdebug::o.qcow2"],
    "blkdebug": ["-drive", "if=none,driver=qcow2,file.driver=blkdebug,file.image.filename=o.qcow2"],
    "blkdebug x-image": ["-drive", "if=none,format=qcow2,file.driver=blkdebug,file.x-image=o.qcow2"],
    "blkverify prefix": ["-drive", "if=none,format=raw,file=blkverify:plain:flash"],
    "blkverify": ["-drive", f"if=none,driver=blkverify,raw.driver=file,raw.filename=plain,{under('test', 'o.qcow2')}"],
    "blklogwrites": ["-drive", f"if=none,driver=blklogwrites,log.driver=file,log.filename=plain,{under('file', 'o.qcow2')}"],
    "copy-before-write": ["-blockdev", f"copy-before-write,node-name=c,{under('file', 'o.qcow2')},{under('target', 'other')}"],
    "quorum": [
        "-drive",
        f"if=none,driver=quorum,vote-threshold=1,{under('children.0', 'o.qcow2')},{under('children.1', 'other')}",
    ],
    "quorum guessed": ["-drive", "if=none,driver=quorum,vote-threshold=1,children.0.file.filename=o.qcow2"],
    "quorum as JSON": [
        "-blockdev",
        json.dumps({**QUORUM, "children": [OVERLAY]}),
    ],
    "quorum of nodes": ["-blockdev", json.dumps({**OVERLAY, "node-name": "n"}), "-blockdev", json.dumps(QUORUM)],
    "base as raw": ["-drive", "if=none,file=o.qcow2,backing.driver=raw"],
    "base of the base": ["-drive", "if=none,file=top.qcow2,backing.backing.driver=qcow2,backing.backing.file.filename=other"],
    "base of the base without its format": ["-drive", "if=none,file=top.qcow2,backing.backing.file.filename=other"],
    "no base of the base": ["-drive", "if=none,file=top.qcow2,backing.backing="],
    "no base": ["-drive", "if=none,file=o.qcow2,backing="],
    "base as raw over qcow2": ["-drive", f"if=none,file=alone.qcow2,backing.driver=raw,{under('backing.file', 'other')}"],
    "base that is a node": ["-blockdev", json.dumps({**OTHER, "read-only": True}), "-drive", "if=none,file=o.qcow2,backing=n"],
    "node twice": ["-blockdev", json.dumps(OTHER), "-drive", "if=none,driver=raw,file.driver=raw,file.file=n"],
    "colon in an option": ["-drive", "if=none,driver=raw,file.filename=nbd:x"],
    "prefix in an option": ["-drive", "if=none,driver=raw,file.driver=file,file.filename=file:x"],
    "JSON and options": ["-drive", "if=none,read-only=on,file=" + JSON_NAME.replace(",", ",,")],
    "JSON with dots": ["-hda", 'json:{"driver": "qcow2", "file.driver": "file", "file.filename": "o.qcow2"}'],
    "data file": ["-drive", "if=none,file=parted.qcow2"],
    "other data file": [
        "-drive",
        "if=none,driver=qcow2,file.filename=parted.qcow2,data-file.filename=plain",
    ],
    "pflash of the machine": ["-blockdev", FLASH, "-machine", "pflash0=f"],
    "through a directory that is a link": ["-hda", "link/../o.qcow2"],
    "two steps": ["-hda", "./././o.qcow2"],
    "snapshot=off": ["-drive", "if=none,file=o.qcow2,snapshot=off"],
    "cluster cache": ["-drive", "if=none,file=o.qcow2,l2-cache-size=1M,cache.direct=on,overlap-check.template=none"],
}


@pytest.fixture
def directory(tmp_path):
    """base.qcow2 <- o.qcow2, and disks of other kinds."""
    make_base(tmp_path / "base.qcow2", noise(1 << 16))
    make_base(tmp_path / "other", noise(1 << 16, 1))
    make_overlay(tmp_path / "o.qcow2", "base.qcow2")
    make_overlay(tmp_path / "top.qcow2", "o.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/data", tmp_path / "parted.qcow2", "64k")
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "alone.qcow2", "64k")
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    make_base(tmp_path / "elsewhere/o.qcow2", noise(1 << 16))
    (tmp_path / "link").symlink_to("elsewhere/deep")
    for name in ("plain", "odd,name", "flash", "nbd:x", "file:x"):
        (tmp_path / name).write_bytes(bytes(1 << 18))
    (tmp_path / "machine.conf").write_text(
        '[machine]\n  graphics = "off"\n\n# a disk\n[drive "d"]\n  file = "o.qcow2"\n  if = "virtio"\n'
    )
    return tmp_path


def ours(arguments, directory) -> dict[str, bool]:
    """The files that we say QEMU opens, whole chains of them, and whether for writing."""
    found = check_start(drives_of(arguments, directory), dependents=False, directory=directory)
    assert not found.refusals
    files: dict[str, bool] = {}
    for drive in [answer.drive for answer in found.answers if answer.drive.path]:
        backing = _backing(drive, directory)
        lineage = survey_chains([*_images(drive, backing)], backing)
        chain = [os.path.realpath(image.path) for image in lineage.chain(lineage.find(drive.path))]
        files = dict.fromkeys(chain[1:], False) | files | {chain[0]: drive.writable}
    return files


@pytest.mark.qemu("qemu-io", "qemu-system-x86_64")
@pytest.mark.parametrize("arguments", COMMAND_LINES.values(), ids=COMMAND_LINES.keys())
def test_the_files_found_are_those_that_qemu_opens(arguments, directory):
    with waiting_machine(arguments, directory) as talk:
        opened = {os.path.realpath(directory / name): writable for name, writable in open_files(talk).items()}
    assert ours(arguments, directory) == opened
    assert opened


@pytest.mark.parametrize(
    ("arguments", "remote"),
    [
        (["-drive", "file=nbd://host/export"], "nbd://host/export"),
        (["-drive", "file=nbd:unix:/run/x"], "nbd:unix:/run/x"),
        (["-drive", "driver=nbd,host=h,port=1"], "the driver nbd"),
        (["-blockdev", '{"driver": "qcow2", "file": {"driver": "https", "url": "https://x"}}'], "the driver https"),
        (["-drive", "if=none,id=cd"], "an empty drive"),
        (["-drive", "file=/dev/fdset/1"], "/dev/fdset/1, a descriptor that is passed in"),
    ],
)
def test_what_is_no_local_file_is_said_and_has_no_path(arguments, remote):
    (drive,) = drives_of(arguments)
    assert (drive.path, drive.remote) == (None, remote)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-drive", "file=a,snapshot=on"],
        ["-snapshot", "-hda", "a"],
        ["-hda", "a", "-snapshot"],
        ["-drive", "file=a,readonly"],
        ["-blockdev", '{"driver": "raw", "read-only": true, "file": {"driver": "file", "filename": "a"}}'],
    ],
)
def test_what_the_guest_can_t_change_is_not_writable(arguments):
    (drive,) = drives_of(arguments)
    assert not drive.writable


def test_snapshot_for_the_machine_leaves_a_drive_that_says_otherwise(tmp_path):
    (drive,) = drives_of(["-snapshot", "-drive", "file=a,snapshot=off"], tmp_path)
    assert drive.writable


def test_a_base_named_on_the_command_line_takes_the_recorded_one_s_place(tmp_path):
    (drive,) = drives_of(
        [
            "-drive",
            "file=o,backing.driver=qcow2,backing.file.filename=b,backing.backing.driver=raw,backing.backing.file.filename=c",
        ],
        tmp_path,
    )
    assert drive.below == (Below(tmp_path / "b", "qcow2"), Below(tmp_path / "c", "raw"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["-blockdev", "{not json"],
        ["-blockdev", "driver=qcow2,file=nobody"],
        ["-blockdev", "driver=raw,file=a,node-name=b", "-blockdev", "driver=raw,file=b,node-name=a", "-drive", "file.file=a"],
        ["-blockdev", "{" * 5000],
    ],
)
def test_what_qemu_would_not_understand_either_is_an_error(arguments):
    with pytest.raises(MachineUnclear):
        drives_of(arguments)


def test_a_configuration_that_can_t_be_read_is_an_error(tmp_path):
    with pytest.raises(HostFileError):
        drives_of(["-readconfig", "none"], tmp_path)
    (tmp_path / "odd").write_text("[drive\n")
    with pytest.raises(MachineUnclear, match="line 1"):
        drives_of(["-readconfig", "odd"], tmp_path)


def test_qemu_is_found_behind_other_programs():
    assert program_at(["env", "A=1", "/usr/bin/qemu-system-aarch64", "-S"]) == 2
    assert program_at(["sudo", "-u", "qemu", "-g", "kvm", "qemu-system-x86_64", "-S"]) == 5
    assert program_at(["kvm"]) == 0
    assert program_at(["ls", "-l"]) is None


@pytest.mark.parametrize(
    ("words", "directory"),
    [
        (["env", "A=1"], "/here"),
        (["env", "-C", "there", "A=1"], "/here/there"),
        (["env", "--chdir=/there"], "/there"),
        (["nice", "-n", "5", "env", "-C", "a", "env", "-C", "b"], "/here/a/b"),
        (["/usr/bin/sudo", "-u", "qemu", "-D", "/there"], "/there"),
    ],
)
def test_programs_before_qemu_are_followed_into_their_directory(words, directory):
    assert started_in(words, "/here") == (type(started_in([])[0])(directory), "")


@pytest.mark.parametrize("words", [["chroot", "/x"], ["sh", "-c", "x"], ["sudo", "-R", "/x"], ["env", "-S", "x"], ["./wrapper"]])
def test_programs_before_qemu_that_can_t_be_followed_are_not_understood(words):
    assert started_in(words)[1]


@pytest.mark.qemu("qemu-system-x86_64")
def test_every_option_that_qemu_has_is_known_with_or_without_an_argument(tmp_path):
    told = subprocess.run(["qemu-system-x86_64", "-help"], capture_output=True, text=True, check=True).stdout
    # "-S              freeze CPU at startup", "-m [size=]megs[,...]", "-hda/-hdb file  use 'file' as hard disk 0/1 image"
    first = [line.split()[0] for line in told.splitlines() if line.startswith("-")]
    options = {name.lstrip("-") for word in first for name in word.split("/") if name.startswith("-")}
    assert len(options) > 80
    unknown = []
    for option in sorted(options):
        argument = [] if option in table.WITHOUT_ARGUMENT else ["no-such-thing"]
        with contextlib.suppress(MachineUnclear, HostFileError):  # it is known, and the argument makes no sense
            found = drives_of([f"-{option}", *argument], tmp_path, user_config=False)
            unknown += [drive.where for drive in found if drive.unknown.startswith("the option is not known")]
    assert unknown == []


@pytest.mark.parametrize("option", ["mem-prealloc", "enable-sync-profile", "async-teardown"])
def test_an_option_without_an_argument_leaves_the_next_one_alone(tmp_path, option):
    (drive,) = drives_of([f"-{option}", "-drive", f"file={tmp_path / 'a'}"], tmp_path, user_config=False)
    assert (drive.path, drive.unknown) == (tmp_path / "a", "")
