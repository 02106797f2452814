from __future__ import annotations

import json
import os

import pytest

from cowherd.errors import HostFileError
from cowherd.herd.lineage import survey_chains
from cowherd.live.machine.command_line import drives_of, program_at
from cowherd.live.machine.drive import Below, MachineUnclear
from tests.herd.qemu_herd import make_base, make_overlay, noise
from tests.qmp import open_files, waiting_machine

BLOCKDEV = "driver=qcow2,file.driver=file,file.filename=o.qcow2,node-name=disk"
NESTED = {"driver": "qcow2", "file": {"driver": "file", "filename": "o.qcow2"}, "read-only": True, "node-name": "disk"}
NAMED = {
    "driver": "qcow2",
    "node-name": "disk",
    "file": "own",
    "backing": {"driver": "qcow2", "file": {"driver": "file", "filename": "other"}},
}
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
}


@pytest.fixture
def directory(tmp_path):
    """base.qcow2 <- o.qcow2, and disks of other kinds."""
    make_base(tmp_path / "base.qcow2", noise(1 << 16))
    make_base(tmp_path / "other", noise(1 << 16, 1))
    make_overlay(tmp_path / "o.qcow2", "base.qcow2")
    for name in ("plain", "odd,name", "flash"):
        (tmp_path / name).write_bytes(bytes(1 << 18))
    (tmp_path / "machine.conf").write_text(
        '[machine]\n  graphics = "off"\n\n# a disk\n[drive "d"]\n  file = "o.qcow2"\n  if = "virtio"\n'
    )
    return tmp_path


def ours(arguments, directory) -> dict[str, bool]:
    """The files that we say QEMU opens, whole chains of them, and whether for writing."""
    drives = drives_of(arguments, directory)
    files: dict[str, bool] = {}
    for drive in drives:
        files[str(drive.path)] = drive.writable
        below = [str(below.path) for below in drive.below]
        if not below and not drive.ends:
            lineage = survey_chains([(drive.path, drive.format)], {})
            below = [str(image.path) for image in lineage.chain(lineage.find(drive.path))[1:]]
        files |= dict.fromkeys(below, False)
    return files


@pytest.mark.qemu("qemu-io", "qemu-system-x86_64")
@pytest.mark.parametrize("arguments", COMMAND_LINES.values(), ids=COMMAND_LINES.keys())
def test_the_files_found_are_those_that_qemu_opens(arguments, directory):
    with waiting_machine(arguments, directory) as talk:
        opened = {os.path.join(directory, name): writable for name, writable in open_files(talk).items()}
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
