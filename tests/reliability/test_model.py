"""The model of a power cut lets through what it should, and no more; the recorder misses nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from cowherd.storage.atomic import newcomer, sync_directory, write_atomically
from cowherd.storage.hostfile import HostFile
from tests.reliability.crash import Crash, crashes, durable
from tests.reliability.recorder import Recorder
from tests.reliability.world import World

SECTOR = 512


def recorded(root: Path, work) -> tuple[World, Recorder]:
    before = World.capture(root)
    recorder = Recorder(root, before)
    with recorder.recording():
        work()
    recorder.release()
    return before, recorder


def possible(root: Path, work, number: int = 400) -> list[Crash]:
    before, recorder = recorded(root, work)
    return list(crashes(before, recorder.nodes, recorder.log, random.Random(1), number))


def files(root: Path, world: World) -> dict[str, bytes]:
    return {path.name: bytes(world.nodes[number].data or b"") for path, number in world.places(root).items()}


def test_what_was_not_flushed_may_be_there_or_not_in_any_order(tmp_path):
    (tmp_path / "a").write_bytes(bytes(2))

    def work():
        with HostFile.open(tmp_path / "a", writable=True, lock=None) as file:
            file.pwrite(0, b"1")
            file.pwrite(1, b"2")

    assert {files(tmp_path, one.world)["a"] for one in possible(tmp_path, work)} == {b"\0\0", b"1\0", b"\x002", b"12"}


def test_what_was_flushed_is_there(tmp_path):
    (tmp_path / "a").write_bytes(bytes(2))

    def work():
        with HostFile.open(tmp_path / "a", writable=True, lock=None) as file:
            file.pwrite(0, b"1")
            file.flush()
            file.pwrite(1, b"2")

    found = {files(tmp_path, one.world)["a"] for one in possible(tmp_path, work)}
    assert found == {b"\0\0", b"1\0", b"12"}


def test_a_write_may_be_torn_between_two_sectors(tmp_path):
    (tmp_path / "a").write_bytes(bytes(2 * SECTOR))

    def work():
        with HostFile.open(tmp_path / "a", writable=True, lock=None) as file:
            file.pwrite(0, b"x" * 2 * SECTOR)

    found = {files(tmp_path, one.world)["a"] for one in possible(tmp_path, work)}
    assert found == {first * SECTOR + second * SECTOR for first in (b"\0", b"x") for second in (b"\0", b"x")}


def test_a_name_may_be_there_before_the_bytes_unless_they_were_flushed(tmp_path):
    (tmp_path / "a").write_bytes(b"old")

    def careless():
        with HostFile.create(tmp_path / "new", lock=None) as file:
            file.pwrite(0, b"new")
        os.rename(tmp_path / "new", tmp_path / "a")

    assert b"" in {files(tmp_path, one.world).get("a") for one in possible(tmp_path, careless)}
    (tmp_path / "a").write_bytes(b"old")
    found = {files(tmp_path, one.world)["a"] for one in possible(tmp_path, lambda: write_atomically(tmp_path / "a", b"new"))}
    assert found == {b"old", b"new"}


def test_a_file_that_was_flushed_has_no_durable_name_until_its_directory_was_flushed(tmp_path):
    def work():
        with HostFile.create(tmp_path / "a", lock=None) as file:
            file.pwrite(0, b"1")
            file.flush()

    before, recorder = recorded(tmp_path, work)
    assert files(tmp_path, durable(before, recorder.nodes, recorder.log)) == {}
    (tmp_path / "a").unlink()
    before, recorder = recorded(tmp_path, lambda: (work(), sync_directory(tmp_path)))
    assert files(tmp_path, durable(before, recorder.nodes, recorder.log)) == {"a": b"1"}


def test_a_newcomer_is_whole_wherever_it_has_its_name(tmp_path):
    def work():
        with newcomer(tmp_path / "a") as file:
            file.pwrite(0, b"whole")

    assert {files(tmp_path, one.world).get("a") for one in possible(tmp_path, work)} == {None, b"whole"}


def test_a_tree_that_is_laid_out_keeps_its_identities_until_it_is_changed(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(b"1")
    before, world = os.stat(root / "a"), World.capture(root)
    with world.lay_out(root).believed():
        now = os.stat(root / "a")
        assert (now.st_ino, now.st_mtime_ns, now.st_ctime_ns) == (before.st_ino, before.st_mtime_ns, before.st_ctime_ns)
        (root / "a").write_bytes(b"2")
        assert os.stat(root / "a").st_mtime_ns > before.st_mtime_ns


@pytest.mark.qemu("strace")
def test_the_recorder_sees_every_call_that_the_kernel_sees(tmp_path):
    """What a merge does, counted by strace, and by the recorder."""
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.reliability.calls import interposed\nfrom tests.reliability.jobs import run, sealed_herd\n"
        "root = Path(sys.argv[1]); sealed_herd(root); seen = []\n"
        "def handle(name, call, arguments, options):\n    seen.append(name); return call(*arguments, **options)\n"
        "Path(sys.argv[1], '.begun').touch()\n"
        "with interposed(handle): done = run(root, 'guard', 'merge', '--strategy', 'preserve', '{}/one')\n"
        "Path(sys.argv[1], '.ended').touch()\n"
        "print(done.code, *(seen.count(name) for name in ('pwritev', 'fdatasync', 'fsync', 'rename', 'link', 'unlink')))\n"
    )
    trace, herd = tmp_path / "trace", tmp_path / "herd"
    herd.mkdir()
    calls = "trace=openat,pwritev,pwritev2,pwrite64,fdatasync,fsync,rename,renameat,renameat2,link,linkat,unlink,unlinkat"
    command = ["strace", "-f", "-e", calls, "-o", str(trace), sys.executable, "-c", script, str(herd)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr:
        pytest.skip("strace may not be used here")
    lines = trace.read_text().splitlines()
    first = next(index for index, line in enumerate(lines) if "/.begun" in line)
    last = next(index for index, line in enumerate(lines) if "/.ended" in line)
    names = [line.split("(")[0].split()[-1] for line in lines[first + 1 : last]]
    kinds = {"pwritev": ("pwritev", "pwritev2", "pwrite64"), "fdatasync": ("fdatasync",), "fsync": ("fsync",)}
    kinds |= {"rename": ("rename", "renameat", "renameat2"), "link": ("link", "linkat"), "unlink": ("unlink", "unlinkat")}
    counted = [sum(name in kind for name in names) for kind in kinds.values()]
    assert done.stdout.split() == ["0", *map(str, counted)], done.stderr
    assert counted[0] > 0
