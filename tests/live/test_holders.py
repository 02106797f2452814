"""Holders: which processes have an image open, and how the error names them."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowherd.errors import HostFileError, ImageInUse
from cowherd.live import holders as module
from cowherd.live.holders import Holder, Survey, describe, holders, naming_holders, survey, writers
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ, WRITE
from tests.qemu import Tool
from tests.storage.hosts import as_nobody, loop_device, running

OPENS = "import sys; file = open(sys.argv[1], sys.argv[2]); print('open', flush=True); sys.stdin.read()"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(b"x" * 4096)
    return path


@pytest.fixture
def reader(image: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that reads the image and knows nothing of locks."""
    with running(sys.executable, "-c", OPENS, image, "rb", until="open") as process:
        yield process


@pytest.fixture
def disk(tmp_path: Path, qemu_img: Tool) -> Path:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "1M")
    return path


@pytest.mark.qemu("qemu-io")
@pytest.mark.parametrize(("options", "writing"), [([], True), (["-r"], False)])
def test_a_qemu_process_is_found_with_what_it_does(disk: Path, options: list[str], writing: bool) -> None:
    with running("qemu-io", *options, disk, until="qemu-io> ") as qemu:
        (holder,) = holders(disk)
    assert (holder.pid, holder.command, holder.writing, holder.locking) == (qemu.pid, "qemu-io", writing, True)
    assert holder.command_line == " ".join(["qemu-io", *options, str(disk)])[:119] + ("…" if len(str(disk)) > 111 else "")


def test_a_file_that_nobody_has_open_has_no_holders(image: Path) -> None:
    assert holders(image) == ()


def test_a_reader_without_locks_is_told_from_a_locking_one(image: Path, reader: subprocess.Popen[bytes]) -> None:
    (holder,) = holders(image)
    assert (holder.pid, holder.writing, holder.locking, holder.is_this_process) == (reader.pid, False, False, False)


def test_the_file_is_found_under_another_of_its_names(image: Path, reader: subprocess.Popen[bytes]) -> None:
    link, moved = image.with_name("link"), image.with_name("moved")
    os.link(image, link)
    image.rename(moved)
    assert [holder.pid for holder in holders(link)] == [reader.pid]


def test_another_file_of_the_same_name_is_not_confused_with_the_held_one(image: Path, reader: subprocess.Popen[bytes]) -> None:
    assert [holder.pid for holder in holders(image)] == [reader.pid]
    image.unlink()
    image.write_bytes(b"new")
    assert holders(image) == ()


def test_several_descriptors_of_one_process_are_one_holder(image: Path) -> None:
    with HostFile.open(image, lock=READ), HostFile.open(image, writable=True, lock=None):
        (holder,) = holders(image)
    assert (holder.is_this_process, holder.writing, holder.locking) == (True, True, True)


def test_a_block_device_is_found_by_its_number(tmp_path: Path) -> None:
    backing = tmp_path / "device.img"
    backing.write_bytes(bytes(1 << 20))
    with loop_device(backing) as device, HostFile.open(device, lock=None):
        node = tmp_path / "node"
        os.mknod(node, 0o600 | 0o060000, device.stat().st_rdev)
        assert [holder.pid for holder in holders(node)] == [os.getpid()]


def test_control_characters_in_a_command_line_are_escaped(image: Path) -> None:
    with running(sys.executable, "-c", OPENS, image, "rb", "\x1b[2J", until="open"):
        (holder,) = holders(image)
    assert "\x1b" not in holder.command_line
    assert len(holder.command_line) <= 120


def test_a_long_program_name_is_given_in_full() -> None:
    assert module.program_name(b"/usr/bin/qemu-system-x86_64\0-S\0", b"qemu-system-x86") == b"qemu-system-x86_64"
    assert module.program_name(b"/usr/bin/env\0", b"qemu-system-x86") == b"qemu-system-x86"
    assert module.program_name(b"", b"kworker") == b"kworker"


@pytest.mark.parametrize(
    ("line", "is_image_lock"),
    [
        ("1: OFDLCK ADVISORY  READ -1 fe:00:2156785 100 101", True),
        ("1: OFDLCK ADVISORY  READ -1 fe:00:2156785 203 203", True),
        ("1: OFDLCK ADVISORY  READ -1 fe:00:2156785 0 EOF", True),
        ("1: POSIX  ADVISORY  WRITE 12 fe:00:2156785 0 0", False),
        ("1: OFDLCK ADVISORY  READ -1 fe:00:2156785 1000 EOF", False),
    ],
)
def test_image_locks_are_told_from_other_locks(line: str, is_image_lock: bool) -> None:
    assert module._is_image_lock(line) is is_image_lock


def test_processes_that_may_not_be_looked_into_are_counted(image: Path) -> None:
    with as_nobody(image.parent):
        seen = survey(image.name)
    assert seen.holders == ()
    assert seen.unreadable >= 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostFileError, match="nosuch"):
        survey(tmp_path / "nosuch")


def test_a_holder_is_described_in_one_line() -> None:
    assert describe(Holder(2, "qemu-system-x86_64", "", writing=True, locking=True)) == "qemu-system-x86_64 (pid 2, writing)"
    assert (
        describe(Holder(os.getpid(), "python3", "", writing=False, locking=True)) == f"this process (pid {os.getpid()}, reading)"
    )
    domain = Holder(3, "kvm", "", writing=False, locking=True, machine="web", is_domain=True, user="libvirt-qemu")
    assert describe(domain) == "kvm (pid 3, user libvirt-qemu, domain web, reading)"


@pytest.mark.qemu("qemu-io")
def test_the_error_names_the_process_that_holds_the_image(disk: Path) -> None:
    with running("qemu-io", disk, until="qemu-io> ") as qemu, pytest.raises(ImageInUse) as caught, naming_holders():
        HostFile.open(disk, lock=READ)
    (line,) = caught.value.holders
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert re.fullmatch(rf"qemu-io \(pid {qemu.pid}, user {user}, since \d+-\d\d-\d\d \d\d:\d\d, writing\)", line)
    assert str(caught.value).endswith(f"[{disk}]? Open in: {line}.")


@pytest.mark.qemu("qemu-io")
def test_the_error_leaves_out_who_only_reads_and_this_process(disk: Path) -> None:
    with (
        running(sys.executable, "-c", OPENS, disk, "rb", until="open"),
        running("qemu-io", "-r", disk, until="qemu-io> ") as qemu,
        HostFile.open(disk, writable=True, lock=READ) as ours,
        pytest.raises(ImageInUse) as caught,
        naming_holders(),
    ):
        ours.lock(WRITE)
    (line,) = caught.value.holders
    assert line.startswith(f"qemu-io (pid {qemu.pid}, ")
    assert line.endswith("reading)")


def test_a_conflict_inside_this_process_is_told_without_naming_it_as_somebody_else(image: Path) -> None:
    with HostFile.open(image, writable=True, lock=WRITE), pytest.raises(ImageInUse) as caught, naming_holders():
        HostFile.open(image, lock=READ)
    assert caught.value.holders[-1] == "this program itself, by another name or a second time"
    assert str(os.getpid()) not in str(caught.value)


def test_the_same_error_goes_on_and_holders_already_named_stay(image: Path) -> None:
    error = ImageInUse(image, "write", holders=["known"])
    with pytest.raises(ImageInUse) as caught, naming_holders():
        raise error
    assert caught.value is error
    assert error.holders == ("known",)


def test_an_error_about_a_file_that_is_gone_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ImageInUse) as caught, naming_holders():
        raise ImageInUse(tmp_path / "gone", "write")
    assert caught.value.holders == ()


def test_processes_out_of_sight_are_mentioned_where_nobody_else_is_seen(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "survey", lambda path: Survey((), 7))
    with pytest.raises(ImageInUse) as caught, naming_holders():
        raise ImageInUse(image, "write")
    (line,) = caught.value.holders
    assert line.startswith("perhaps a process that is not seen: ")


def test_other_errors_pass_untouched() -> None:
    with pytest.raises(KeyError), naming_holders():
        raise KeyError("x")


def test_writers_are_told_for_each_path_and_readers_are_not(tmp_path):
    written, read, idle = (tmp_path / name for name in ("written", "read", "idle"))
    for path in (written, read, idle):
        path.write_bytes(b"x")
    code = "import sys; w = open(sys.argv[1], 'r+b'); r = open(sys.argv[2], 'rb'); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(written), str(read)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        found = writers([written, read, idle, tmp_path / "gone"])
        process.communicate()
    assert {path: [holder.pid for holder in those] for path, those in found.items()} == {written: [process.pid]}


def test_this_process_is_none_of_the_writers(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with open(tmp_path / "file", "r+b"):
        assert writers([tmp_path / "file"]) == {}


def test_processes_that_are_hidden_from_a_user_are_minded(image: Path, tmp_path: Path) -> None:
    """With hidepid=invisible /proc shows a user no others, so that there is not even something that may not be looked into."""
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("needs root and mount namespaces")
    code = (
        "import os; os.setgid(65534); os.setuid(65534); from cowherd.live.holders import hidden_reason; print(hidden_reason(0))"
    )
    loaded = f"import cowherd.live.holders; {code}"
    script = 'mount -t proc -o hidepid=invisible proc /proc && exec "$0" -c "$1"'
    command = ["unshare", "--mount", "sh", "-c", script, sys.executable, loaded]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr)
    assert "of one user" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (b"qemu-system-x86_64\0-name\0web\0", "web"),
        (b"qemu-system-x86_64\0-name\0guest=we,,b,debug-threads=on\0-S\0", "we,b"),
        (b"qemu-system-x86_64\0--name\0process=x,guest=web\0", "web"),
        (b"qemu-system-x86_64\0-name\0process=x\0", ""),
        (b"qemu-system-x86_64\0-name\0", ""),
        (b"qemu-system-x86_64\0-S\0", ""),
        (b"", ""),
    ],
)
def test_a_machine_has_the_name_that_its_command_line_gives(arguments: bytes, name: str) -> None:
    assert module._machine_name(arguments) == name


def test_three_hundred_processes_are_looked_through_in_little_time(image: Path) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(max(0, 300 - len(module.processes()))):
            process = stack.enter_context(subprocess.Popen(["sleep", "100"]))
            stack.callback(process.kill)
        used = []
        for _ in range(5):
            began = time.process_time()
            module.look_through({(module.FILE, 1, 2**62)}, own=False)
            used.append(time.process_time() - began)
    assert min(used) < 0.1  # 10 ms; here others may be at work
