"""Changes beside machines that run without image locks: each command finds them, and leaves everything as it is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cowherd.cli.guard import main as guard
from cowherd.cli.img import main as img
from cowherd.errors import ImageInUse
from cowherd.herd.machines.in_use import REQUIRE_VARIABLE, HoldersHidden, require_free
from cowherd.herd.merge.merge import merge
from cowherd.herd.overlays.clone import clone
from cowherd.herd.seals.seal import seal
from cowherd.herd.trash.trash import trash
from cowherd.live.holders import holders
from cowherd.storage.leases import openings
from tests.herd.merge.herds import killed_at
from tests.herd.qemu_herd import make_base, make_overlay, noise, write
from tests.qmp import waiting_machine
from tests.storage.hosts import NOBODY, loop_device, mounted, require_root, running
from tests.waiting import wait_until

pytestmark = pytest.mark.qemu("qemu-io", "qemu-system-x86_64")

MIB = 1 << 20
MAPS = """
import ctypes, os, sys
how = sys.argv[2]
fd = os.open(sys.argv[1], os.O_RDWR if how == "w" else os.O_RDONLY)
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
MAP_SHARED, PROT_READ, PROT_WRITE = 1, 1, 2
mapped = libc.mmap(None, 4096, PROT_READ | (PROT_WRITE if how == "w" else 0), MAP_SHARED, fd, ctypes.c_long(0))
assert mapped != ctypes.c_void_p(-1).value, ctypes.get_errno()
os.close(fd)
print("open", flush=True)
sys.stdin.read()
"""
"""Maps a file and closes it; Python's own mmap keeps a descriptor."""
PROGRAM = "import sys; sys.argv[0] = sys.argv.pop(1); from cowherd.cli.{}.main import program; program()"
MODULES = {"cowherd": "guard", "cowherd-img": "img"}


@pytest.fixture
def herd(tmp_path):
    """A sealed base with the overlays `disk`, on which `top` stands, and `other`; an unsealed `plain` with one overlay; `new`."""
    herd = tmp_path / "herd"
    herd.mkdir()
    make_base(herd / "base", noise(MIB))
    seal(herd / "base")
    for name in ("disk", "other"):
        clone(herd / "base", herd / name, seal_base=False)
        write(herd / name, "write -P 2 100k 64k")
    make_overlay(herd / "top", "disk")
    make_base(herd / "plain", noise(MIB))
    make_overlay(herd / "over", "plain")
    write(herd / "over", "write -P 3 200k 64k")
    make_base(herd / "new", noise(MIB, 7))
    return herd


def node(path: Path) -> dict:
    """What QEMU is told of an image and all below it, to use them without locks."""
    with path.open("rb") as file:
        is_qcow2 = file.read(4) == b"QFI\xfb"
    found = {
        "driver": "qcow2" if is_qcow2 else "raw",
        "file": {"driver": "file", "filename": str(path), "locking": "off", "auto-read-only": True},
    }
    info = json.loads(subprocess.run(["qemu-img", "info", "-U", "--output=json", path], capture_output=True, check=True).stdout)
    below = info.get("full-backing-filename")
    return found | ({"backing": node(Path(below))} if below else {})


@contextlib.contextmanager
def machine(path: Path, *options: str) -> Iterator[None]:
    """A real QEMU that has the image open for writing, and all below it for reading, with locking=off."""
    description = json.dumps(node(path) | {"node-name": "disk"})
    arguments = [
        "-name",
        "guest=web,process=web-disk",
        "-blockdev",
        description,
        "-device",
        "virtio-blk-pci,drive=disk",
        *options,
    ]
    with tempfile.TemporaryDirectory() as scratch, waiting_machine(arguments, Path(scratch)):  # sockets have short names
        yield


def state(directory: Path) -> dict[str, tuple[int, str]]:
    """Everything that lies in a directory: names, modes and bytes."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() or path.is_symlink())
    return {
        str(path.relative_to(directory)): (path.lstat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files
    }


def command(herd: Path, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program, *words = line.split()
    words = [sys.executable, "-c", PROGRAM.format(MODULES[program]), program, *words]
    return subprocess.run(words, cwd=herd, capture_output=True, text=True, check=False, env=os.environ | environment)


def nothing(herd: Path) -> None:
    pass


def drift(herd: Path) -> None:
    write(herd / "base", "write -P 9 300k 64k")


def delete_it(herd: Path) -> None:
    trash([herd / "top"])


def lose_the_name(herd: Path) -> None:
    (herd / "elsewhere").mkdir()
    (herd / "plain").rename(herd / "elsewhere" / "found")
    seal(herd / "elsewhere" / "found")
    make_overlay(herd / "bound", "elsewhere/found")
    (herd / "elsewhere" / "found").rename(herd / "found")
    (herd / "elsewhere" / "found.seal").rename(herd / "found.seal")
    (herd / "over").unlink()
    subprocess.run(["qemu-img", "rebase", "-u", "-b", "found", "-F", "qcow2", "bound"], cwd=herd, check=True)
    subprocess.run([sys.executable, "-m", "cowherd.cli.guard.main", "bind", "bound"], cwd=herd, check=True, capture_output=True)
    (herd / "found").rename(herd / "hidden")
    (herd / "found.seal").rename(herd / "hidden.seal")


def interrupt_a_merge(herd: Path) -> None:
    assert killed_at(9, lambda: merge(herd / "disk", strategy="preserve"))


CHANGES: list[tuple[str, str, Callable[[Path], None]]] = [
    ("cowherd clone plain fresh", "plain", nothing),
    ("cowherd seal plain", "plain", nothing),
    ("cowherd seal over", "plain", nothing),
    ("cowherd bind --force over", "over", nothing),
    ("cowherd move disk moved", "disk", nothing),
    ("cowherd move base moved", "other", nothing),
    ("cowherd rename disk moved", "disk", nothing),
    ("cowherd rename plain moved", "over", nothing),
    ("cowherd delete top", "top", nothing),
    ("cowherd delete top disk other base", "other", nothing),
    ("cowherd delete --purge top", "top", nothing),
    ("cowherd delete --force disk", "top", nothing),
    ("cowherd merge disk", "disk", nothing),
    ("cowherd merge disk", "top", nothing),
    ("cowherd merge disk --strategy preserve", "other", nothing),
    ("cowherd merge disk --strategy fork", "disk", nothing),
    ("cowherd merge disk --keep empty", "disk", nothing),
    ("cowherd merge disk --strategy fork --keep empty", "top", nothing),
    ("cowherd repair base", "other", drift),
    ("cowherd repair --preserve base", "disk", drift),
    ("cowherd promote top golden", "top", nothing),
    ("cowherd promote top golden --chained", "top", nothing),
    ("cowherd promote disk golden --chained", "top", nothing),
    ("cowherd flatten disk", "disk", nothing),
    ("cowherd flatten disk", "top", nothing),
    ("cowherd flatten over", "plain", nothing),
    ("cowherd retarget disk --onto new", "disk", nothing),
    ("cowherd retarget top --onto new", "new", nothing),
    ("cowherd-img create -f qcow2 new 1M", "new", nothing),
    ("cowherd-img convert -O raw other new", "new", nothing),
    ("cowherd-img convert -n -O qcow2 other new", "new", nothing),
    ("cowherd-img convert -O raw top fresh", "top", nothing),
    ("cowherd-img convert -O raw top fresh", "disk", nothing),
    ("cowherd-img dd if=other of=new", "new", nothing),
    ("cowherd-img dd if=top of=fresh", "top", nothing),
    ("cowherd-img commit over", "over", nothing),
    ("cowherd-img commit over", "plain", nothing),
    ("cowherd-img rebase -b new -F qcow2 top", "top", nothing),
    ("cowherd-img rebase -b new -F qcow2 top", "new", nothing),
    ("cowherd-img rebase -u -b new -F qcow2 top", "top", nothing),
    ("cowherd-img resize top 2M", "top", nothing),
]
"""Commands, the image on which the machine runs, and what is done to the herd before it starts."""

ELSEWHERE = {
    "recover": "test_an_interrupted_merge_is_not_ended_beside_a_machine",
    "trash": "test_what_a_machine_has_open_neither_leaves_the_trash_nor_is_removed_from_it",
}
LOOKING = {
    "herd",
    "tree", "status", "show", "log", "verify", "impact", "inspect", "doctor", "watch", "ps", "report", "run", "hook",
    "images", "push",
    "pull",  # makes new files, under names that nothing has
    "serve",  # changes what is in its own directory, where no machine's images are
    "unseal",  # changes what protects a file, and not what it holds
    "gc",  # lists; what --clean removes is no image
    "check", "compare", "info", "map", "measure", "snapshot",
}  # fmt: skip


def test_no_command_that_changes_something_is_left_out():
    tried = {line.split()[1] for line, _, _ in CHANGES} | ELSEWHERE.keys()
    assert tried | LOOKING == {*guard.COMMANDS, *img.COMMANDS}
    assert not tried & LOOKING


@pytest.mark.parametrize(("line", "running_on", "prepare"), CHANGES, ids=[f"{line}, {on} runs" for line, on, _ in CHANGES])
def test_a_change_beside_a_machine_without_locks_is_refused_and_changes_nothing(herd, line, running_on, prepare):
    prepare(herd)
    with machine(herd / running_on):
        before = state(herd)
        done = command(herd, line)
        after = state(herd)
    assert done.returncode == 1, done
    known = r"web-disk \(pid \d+, user [^,]+, machine web, since [\d: -]+, (writing|reading)\)"
    assert re.search(known, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert after == before


def test_an_interrupted_merge_is_not_ended_beside_a_machine(herd):
    interrupt_a_merge(herd)
    for on in ("other", "top"):
        with machine(herd / on):
            before = state(herd)
            done = command(herd, "cowherd recover")
            assert (done.returncode, state(herd)) == (1, before)
            assert "machine web" in done.stdout + done.stderr
    assert command(herd, "cowherd recover").returncode == 0


def test_what_a_machine_has_open_neither_leaves_the_trash_nor_is_removed_from_it(herd):
    (entry,) = trash([herd / "new"])
    with machine(entry.image):
        before = state(herd)
        for line in ("cowherd trash restore new", "cowherd trash empty"):
            done = command(herd, line)
            assert (done.returncode, state(herd)) == (1, before), done
            assert "machine web" in done.stderr
    assert command(herd, "cowherd trash restore new").returncode == 0


def test_overlays_in_need_of_a_name_are_left_alone_while_they_run(herd):
    plain = herd / "plain"
    seal(plain)
    assert command(herd, "cowherd bind over").returncode == 0
    with machine(herd / "over"):
        plain.rename(herd / "moved")
        (herd / "plain.seal").rename(herd / "moved.seal")
        before = state(herd)
        done = command(herd, "cowherd move --repair over")
        assert (done.returncode, state(herd)) == (1, before), done
    assert command(herd, "cowherd move --repair over").returncode == 0


def test_beside_a_running_sibling_the_merge_that_goes_is_named(herd):
    with machine(herd / "other"):
        done = command(herd, "cowherd merge disk --strategy preserve")
        assert "'cowherd merge disk --strategy fork' leaves the base and its other overlays alone" in done.stderr
        assert command(herd, "cowherd merge disk --strategy fork").returncode == 0
    assert command(herd, "cowherd verify --herd .").returncode == 0


@pytest.mark.parametrize("how", ["r", "w"])
def test_what_is_mapped_and_closed_is_in_use(herd, how):
    with running(sys.executable, "-c", MAPS, herd / "new", how, until="open") as process:
        with pytest.raises(ImageInUse, match=rf"pid {process.pid}, .*{'writing' if how == 'w' else 'reading'}"):
            require_free(changed=[herd / "new"])
        if how == "r":
            require_free(stable=[herd / "new"])
    require_free(changed=[herd / "new"])


@pytest.mark.qemu("qemu-nbd", "qemu-storage-daemon")
@pytest.mark.parametrize(
    "server",
    [
        "qemu-nbd -t -k {socket} --image-opts driver=qcow2,file.filename={image},file.locking=off",
        "qemu-storage-daemon --blockdev driver=file,node-name=f,filename={image},locking=off,read-only=on "
        "--nbd-server addr.type=unix,addr.path={socket}",
    ],
    ids=["qemu-nbd", "qemu-storage-daemon"],
)
def test_servers_of_images_are_found_too(herd, server):
    with tempfile.TemporaryDirectory() as scratch:
        words = server.format(socket=f"{scratch}/nbd", image=herd / "new").split()
        with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
            try:
                # Not until `openings` tells of it: the kernel counts a file before its opener has a descriptor that /proc shows.
                wait_until(lambda: process.poll() is not None or holders(herd / "new"))
                assert process.poll() is None
                with pytest.raises(ImageInUse, match=rf"{words[0]} \(pid {process.pid}"):
                    require_free(changed=[herd / "new"])
            finally:
                process.kill()


def test_a_program_that_only_reads_does_not_keep_images_from_being_changed(herd):
    code = "import sys; file = open(sys.argv[1], 'rb'); print('open', flush=True); sys.stdin.read()"
    with running(sys.executable, "-c", code, herd / "new", until="open"):
        require_free(changed=[herd / "new"])


def test_a_disk_that_the_kernel_has_mounted_is_in_use(tmp_path):
    require_root()
    disk = tmp_path / "disk.raw"
    disk.touch()
    os.truncate(disk, 16 * MIB)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    with mounted(disk, tmp_path / "here there"):
        for how in ({"changed": [disk]}, {"stable": [disk]}):
            with pytest.raises(ImageInUse, match=rf"the kernel: loop device /dev/loop\d+, mounted on {tmp_path}/here there"):
                require_free(**how)
        before = state(tmp_path)
        for line in ("cowherd seal disk.raw", "cowherd promote disk.raw golden", "cowherd delete disk.raw"):
            done = command(tmp_path, line)
            assert (done.returncode, "mounted on" in done.stderr) == (1, True), line
        assert state(tmp_path).keys() == before.keys()
    require_free(changed=[disk])


def test_a_loop_device_that_only_reads_lets_its_file_be_read(tmp_path):
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(MIB))
    with loop_device(disk, "-r"):
        require_free(stable=[disk])
        with pytest.raises(ImageInUse, match="loop device"):
            require_free(changed=[disk])


def test_a_device_that_is_mounted_is_in_use(tmp_path):
    require_root()
    file = tmp_path / "device.img"
    file.touch()
    os.truncate(file, 16 * MIB)
    subprocess.run(["mkfs.ext4", "-q", file], check=True)
    with loop_device(file) as device:
        require_free(changed=[device])
        place = tmp_path / "place"
        place.mkdir()
        subprocess.run(["mount", device, place], check=True)
        try:
            with pytest.raises(ImageInUse, match=f"the kernel: mounted on {place}"):
                require_free(changed=[device])
        finally:
            subprocess.run(["umount", place], check=True)


def test_a_device_that_is_mounted_where_nobody_here_sees_it_is_in_use(tmp_path):
    require_root()
    file = tmp_path / "device.img"
    file.touch()
    os.truncate(file, 16 * MIB)
    subprocess.run(["mkfs.ext4", "-q", file], check=True)
    place = tmp_path / "place"
    place.mkdir()
    script = f'mount "$0" {place} && echo open && exec cat'
    with loop_device(file) as device, running("unshare", "-m", "sh", "-c", script, device, until="open"):
        assert str(place) not in Path("/proc/self/mountinfo").read_text()
        with pytest.raises(ImageInUse, match="the kernel: claimed"):
            require_free(changed=[device])


@pytest.mark.skipif(not shutil.which("dmsetup") or not os.path.exists("/dev/mapper/control"), reason="no device mapper")
def test_a_file_below_the_device_mapper_is_in_use(tmp_path):
    require_root()
    file = tmp_path / "physical.img"
    file.touch()
    os.truncate(file, 16 * MIB)
    with loop_device(file) as device:
        name = f"cowherd-test-{os.getpid()}"
        made = subprocess.run(
            ["dmsetup", "create", name, "--table", f"0 8192 linear {device} 0"], capture_output=True, check=False
        )
        if made.returncode:
            pytest.skip("the kernel has no device mapper")
        try:
            for used, what in ((file, f"loop device {device}, device mapper {name}"), (device, f"device mapper {name}")):
                with pytest.raises(ImageInUse, match=what):
                    require_free(changed=[used])
        finally:
            subprocess.run(["dmsetup", "remove", name], check=True)


def in_another_namespace(herd: Path, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program, *words = line.split()
    unshared = ["unshare", "--pid", "--fork", "--mount-proc", "--", sys.executable, "-c", PROGRAM.format(MODULES[program])]
    done = subprocess.run(
        [*unshared, program, *words], cwd=herd, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    if "unshare" in done.stderr:
        pytest.skip(done.stderr)
    return done


def test_a_change_says_that_it_does_not_see_the_hosts_processes_and_looking_does_not(herd):
    require_root()
    environment = {REQUIRE_VARIABLE: ""}
    done = in_another_namespace(herd, "cowherd rename new moved", **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("holders of these images may be hidden") == 1
    for line in ("cowherd tree .", "cowherd-img info moved", "cowherd-img create -f qcow2 fresh 1M"):
        assert in_another_namespace(herd, line, **environment).stderr == ""
    done = in_another_namespace(herd, "cowherd rename moved new", **{REQUIRE_VARIABLE: "1"})
    assert (done.returncode, (herd / "moved").exists()) == (1, True)
    assert "can't be told for certain" in done.stderr


def test_a_machine_of_the_host_is_noticed_from_another_process_namespace_and_nobody_wrong_is_named(herd):
    require_root()
    for options in ("off", "on"):
        with machine(herd / "top") if options == "off" else running("qemu-io", herd / "top", until="qemu-io> "):
            before = state(herd)
            for line in ("cowherd flatten top", "cowherd delete top", "cowherd promote top x --chained"):
                done = in_another_namespace(herd, line)
                assert (done.returncode, state(herd)) == (1, before), done
                assert "not seen" in done.stderr
                assert "pid" not in done.stderr.replace("process id", "")


def test_a_user_who_may_not_look_into_processes_is_told_so(herd, monkeypatch):
    require_root()
    for directory in (herd, *herd.parents):
        if not directory.stat().st_mode & 0o001:
            directory.chmod(0o755)
    process = os.fork()
    if not process:
        code = 1
        try:
            os.environ[REQUIRE_VARIABLE] = "1"
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            require_free(changed=[herd / "new"], locks=False)
        except HoldersHidden as error:
            code = 0 if "only their user or root" in str(error) or "of one user" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitpid(process, 0)[1] == 0


def test_this_process_is_not_in_its_own_way(herd):
    with (herd / "new").open("r+b"):
        require_free(changed=[herd / "new"])


def test_what_is_not_there_is_free(tmp_path):
    require_free(changed=[tmp_path / "nothing"], stable=[tmp_path / "no" / "file"])


def test_the_kernel_says_whether_a_file_is_open(herd):
    assert openings(herd / "new") == (False, False)
    with (herd / "new").open("rb"):
        assert openings(herd / "new") == (True, False)
    with (herd / "new").open("r+b"):
        assert openings(herd / "new") == (True, True)
    assert openings(herd / "gone") is None
