"""Locks: cowherd and QEMU exclude each other as two QEMU processes do."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cowherd.errors import HostFileError, ImageInUse
from cowherd.storage import locks
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import (
    CREATE,
    INSPECT,
    INSPECT_SHARED,
    READ,
    READ_RAW,
    READ_SHARED,
    RESIZE_RAW,
    WRITE,
    WRITE_RAW,
    LockMode,
)
from tests.qemu import Tool
from tests.storage.hosts import locked_bytes, running

pytestmark = pytest.mark.qemu("qemu-io", "qemu-storage-daemon")

# How qemu-io holds an image open, beside cowherd's mode of the same use.
HELD = {
    "qcow2": {"read": (READ, ["-r"]), "write": (WRITE, []), "shared": (READ_SHARED, ["-r", "-U"])},
    "raw": {"read": (READ_RAW, ["-r"]), "write": (WRITE_RAW, [])},
}
# What QEMU's tools do with an image (PATH) before they end, beside cowherd's mode of the same use.
USED: dict[str, dict[str, tuple[LockMode, list[str]]]] = {
    "qcow2": {
        "info": (INSPECT, ["qemu-img", "info", "PATH"]),
        "info -U": (INSPECT_SHARED, ["qemu-img", "info", "-U", "PATH"]),
        "map": (READ, ["qemu-img", "map", "PATH"]),
        "map -U": (READ_SHARED, ["qemu-img", "map", "-U", "PATH"]),
        "resize": (WRITE, ["qemu-img", "resize", "PATH", "+1M"]),
        "create": (CREATE, ["qemu-img", "create", "-f", "qcow2", "PATH", "1M"]),
    },
    "raw": {
        "info": (INSPECT_SHARED, ["qemu-img", "info", "-f", "raw", "PATH"]),
        "map": (READ_RAW, ["qemu-img", "map", "-f", "raw", "PATH"]),
        "convert from": (READ, ["qemu-img", "convert", "-f", "raw", "-O", "raw", "PATH", "OUT"]),
        "write": (WRITE_RAW, ["qemu-io", "-f", "raw", "-c", "write 0 512", "PATH"]),
        "resize": (RESIZE_RAW, ["qemu-img", "resize", "-f", "raw", "PATH", "+1M"]),
        "create": (CREATE, ["qemu-img", "create", "-f", "raw", "PATH", "1M"]),
    },
}
HOLDINGS = [(format, holding) for format in HELD for holding in HELD[format]]


@pytest.fixture
def image(tmp_path: Path, qemu_img: Tool, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "image"
    qemu_img("create", "-q", "-f", request.param, path, "1M")
    return path


def qemu_refusal(command: list[str], path: Path) -> str | None:
    """QEMU's message where it does not get the locks; None where the command succeeds."""
    words = [{"PATH": str(path), "OUT": f"{path}.out"}.get(word, word) for word in command]
    done = Tool(words[0]).run(*words[1:])
    if done.returncode == 0:
        return None
    assert "Failed to get" in done.stdout + done.stderr
    return done.stdout + done.stderr


def cowherd_refusal(mode: LockMode, path: Path) -> str | None:
    try:
        HostFile.open(path, writable=bool(mode.needs - {0}), lock=mode).close()
    except ImageInUse as error:
        return str(error)
    return None


@pytest.mark.parametrize(("image", "holding"), HOLDINGS, indirect=["image"])
def test_a_use_that_qemu_holds_is_refused_to_cowherd_as_to_qemu(
    image: Path, holding: str, request: pytest.FixtureRequest
) -> None:
    format = request.node.callspec.params["image"]
    _, options = HELD[format][holding]
    with running("qemu-io", "-f", format, *options, image, until="qemu-io> "):
        for name, (mode, command) in USED[format].items():
            ours, theirs = cowherd_refusal(mode, image), qemu_refusal(command, image)
            assert (ours is None) == (theirs is None), f"{name} while {holding}: {ours!r} / {theirs!r}"
            assert (ours or "") in (theirs or ""), name


@pytest.mark.parametrize(("image", "holding"), HOLDINGS, indirect=["image"])
def test_a_use_that_cowherd_holds_is_refused_to_qemu_as_by_qemu(
    image: Path, holding: str, request: pytest.FixtureRequest
) -> None:
    format = request.node.callspec.params["image"]
    mode, options = HELD[format][holding]
    for name, (_, command) in USED[format].items():
        with running("qemu-io", "-f", format, *options, image, until="qemu-io> "):
            expected = qemu_refusal(command, image)
        with HostFile.open(image, writable=mode in (WRITE, WRITE_RAW), lock=mode):
            assert qemu_refusal(command, image) == expected, name


@pytest.mark.parametrize(("image", "holding"), HOLDINGS, indirect=["image"])
def test_cowherd_locks_the_bytes_that_qemu_locks(image: Path, holding: str, request: pytest.FixtureRequest) -> None:
    format = request.node.callspec.params["image"]
    mode, options = HELD[format][holding]
    with running("qemu-io", "-f", format, *options, image, until="qemu-io> ") as qemu:
        theirs = locked_bytes(qemu.pid, image)
    with HostFile.open(image, writable=mode in (WRITE, WRITE_RAW), lock=mode):
        assert locked_bytes(os.getpid(), image) == theirs


@pytest.mark.parametrize("image", ["raw"], indirect=True)
def test_qemu_locks_a_raw_base_as_read_raw_does(image: Path, tmp_path: Path, qemu_img: Tool) -> None:
    overlay = tmp_path / "overlay"
    qemu_img("create", "-q", "-f", "qcow2", "-b", image, "-F", "raw", overlay)
    with running("qemu-io", overlay, until="qemu-io> ") as qemu:
        assert locked_bytes(qemu.pid, image) == {100 + n for n in READ_RAW.needs}


@pytest.mark.parametrize("image", ["qcow2", "raw"], indirect=True)
def test_a_storage_daemon_that_exports_an_image_refuses_the_same_uses_to_both(
    image: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    format = request.node.callspec.params["image"]
    with running(
        "qemu-storage-daemon",
        *("--blockdev", f"driver=file,filename={image},node-name=f", "--blockdev", f"driver={format},file=f,node-name=d"),
        *("--nbd-server", f"addr.type=unix,addr.path={tmp_path}/nbd", "--export", "nbd,id=e,node-name=d,writable=on"),
        *("--chardev", "stdio,id=c", "--monitor", "c"),
        until="QMP",
    ):
        for name, (mode, command) in USED[format].items():
            ours, theirs = cowherd_refusal(mode, image), qemu_refusal(command, image)
            assert (ours is None) == (theirs is None), f"{name}: {ours!r} / {theirs!r}"


@pytest.mark.qemu("qemu-system-x86_64")
def test_a_machine_with_a_raw_disk_refuses_cowherd_to_write_there(tmp_path: Path, qemu_img: Tool) -> None:
    disk = tmp_path / "disk"
    qemu_img("create", "-q", "-f", "raw", disk, "1M")
    with running(
        *("qemu-system-x86_64", "-S", "-display", "none", "-nodefaults", "-monitor", "stdio", "-accel", "tcg"),
        *("-drive", f"file={disk},format=raw,if=virtio"),
        until="(qemu)",
    ):
        assert (
            cowherd_refusal(WRITE_RAW, disk)
            == qemu_refusal(USED["raw"]["write"][1], disk).removeprefix(f"qemu-io: can't open device {disk}: ").strip()
        )
        assert cowherd_refusal(READ_RAW, disk) is None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 4096)
    return path


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_the_error_is_in_qemus_words(file: Path, stack: ExitStack) -> None:
    stack.enter_context(HostFile.open(file, writable=True, lock=WRITE))
    with pytest.raises(ImageInUse) as caught:
        HostFile.open(file, lock=INSPECT)
    assert str(caught.value) == f'Failed to get shared "write" lock\nIs another process using the image [{file}]?'
    assert (caught.value.lock, caught.value.shared) == ("write", True)


def test_a_refused_change_of_mode_leaves_the_old_locks(file: Path, stack: ExitStack) -> None:
    ours = stack.enter_context(HostFile.open(file, writable=True, lock=INSPECT))
    stack.enter_context(HostFile.open(file, lock=READ))
    before = locked_bytes(os.getpid(), file)
    with pytest.raises(ImageInUse):
        ours.lock(WRITE)
    assert locked_bytes(os.getpid(), file) == before


def test_a_weaker_mode_gives_up_the_locks_that_it_lacks(file: Path) -> None:
    with HostFile.open(file, writable=True, lock=WRITE) as ours:
        ours.lock(READ)
        assert locked_bytes(os.getpid(), file) == {100, 201, 203}


def test_a_mode_that_is_held_already_asks_nobody(file: Path, stack: ExitStack) -> None:
    ours = stack.enter_context(HostFile.open(file, writable=True, lock=WRITE))
    other = stack.enter_context(HostFile.open(file, writable=True, lock=None))
    locks.lock_shared(other.fd, 101, file)  # a program that announces itself and has not looked yet
    ours.lock(READ)
    assert locked_bytes(os.getpid(), file) == {100, 101, 201, 203}


def test_a_lock_outlives_no_close_even_where_a_child_inherited_the_file(file: Path, stack: ExitStack) -> None:
    ours = HostFile.open(file, writable=True, lock=WRITE)
    inherited = os.dup(ours.fd)  # the same open file description, as after fork(2)
    stack.callback(os.close, inherited)
    ours.close()
    HostFile.open(file, writable=True, lock=WRITE).close()


def test_a_byte_that_is_locked_exclusively_means_in_use(file: Path, stack: ExitStack) -> None:
    other = stack.enter_context(HostFile.open(file, writable=True, lock=None))
    fcntl.fcntl(other.fd, fcntl.F_OFD_SETLK, locks._request(fcntl.F_WRLCK, 201, 1))
    with pytest.raises(ImageInUse) as caught:
        HostFile.open(file, lock=READ)
    assert (caught.value.lock, caught.value.shared) == ("write", True)


def refuse_locks(monkeypatch: pytest.MonkeyPatch, command: int, code: int, *, only_null: bool = False) -> None:
    real, null = fcntl.fcntl, os.stat(os.devnull)

    def fcntl_without_locks(fd: int, request: int, argument: bytes | int = 0) -> bytes | int:
        if request == command and (not only_null or os.path.samestat(os.fstat(fd), null)):
            raise OSError(code, os.strerror(code))
        return real(fd, request, argument)

    monkeypatch.setattr(fcntl, "fcntl", fcntl_without_locks)


@pytest.mark.parametrize(
    ("command", "action"), [(fcntl.F_OFD_SETLK, "lock byte 100 of"), (fcntl.F_OFD_GETLK, "test the lock on byte")]
)
def test_a_file_system_without_locks_is_an_error_that_names_file_and_byte(
    file: Path, monkeypatch: pytest.MonkeyPatch, command: int, action: str
) -> None:
    locks._kernel_has_locks()  # the kernel has them, and was asked before
    refuse_locks(monkeypatch, command, errno.ENOLCK)
    with pytest.raises(HostFileError, match=f"{action}.*{file.name}.*No locks available"):
        HostFile.open(file, lock=READ)


def test_a_kernel_without_such_locks_is_used_without_them(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks._answer.clear()
    refuse_locks(monkeypatch, fcntl.F_OFD_GETLK, errno.EINVAL, only_null=True)
    try:
        with HostFile.open(file, writable=True, lock=WRITE):
            assert locked_bytes(os.getpid(), file) == set()
    finally:
        locks._answer.clear()


def test_a_forked_child_that_closes_a_file_leaves_its_parent_the_lock(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"\0" * 65536)
    with HostFile.open(path, writable=True, lock=locks.WRITE) as held:
        child = os.fork()
        if not child:
            held.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(ImageInUse):
            HostFile.open(path, writable=True, lock=locks.WRITE).close()
    HostFile.open(path, writable=True, lock=locks.WRITE).close()
