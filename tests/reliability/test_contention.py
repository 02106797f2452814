"""Many processes at once on one herd: cloning, writing, merging, verifying, deleting, some of them QEMU's own.

By default six workers go on for three seconds; COWHERD_CONTENTION_SECONDS=60 makes it 32 for a minute.
"""

from __future__ import annotations

import collections
import contextlib
import io
import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from cowherd import api
from cowherd.cli.guard import main as guard
from cowherd.errors import ImageInUse
from tests.herd.qemu_herd import make_base, noise, qemu_img, qemu_io

pytestmark = pytest.mark.qemu("qemu-io")

SECONDS = float(os.environ.get("COWHERD_CONTENTION_SECONDS", "3"))
WORKERS = 32 if SECONDS >= 30 else 6
BASES = 4
SIZE = 256 << 10
UNIT = 4096
PATIENCE_SECONDS = 120
ALLOWED = {0, 1, 3, 4}
"""Done; in use by another, who was quicker; refused, since others depend on it; a base that is being changed just now."""


def test_many_processes_at_once_lose_nothing(tmp_path, record_property):
    herd = tmp_path / "herd"
    herd.mkdir()
    for number in range(BASES):
        make_base(herd / f"base{number}", noise(SIZE, number), "-o", "cluster_size=4k")
        api.seal(herd / f"base{number}")
    processes = [_start(herd, worker) for worker in range(WORKERS)]
    _await(processes, SECONDS + PATIENCE_SECONDS)
    for _ in range(3):
        _command("recover", os.fspath(herd))
    done: collections.Counter[str] = collections.Counter()
    for worker in range(WORKERS):
        said = json.loads((herd / f"worker{worker}.said").read_text())
        assert said["problem"] is None, said["problem"]
        done.update(said["done"])
        for name, content in said["disks"].items():
            assert _shown(herd / name) == bytes.fromhex(content), f"{name} does not hold what was written to it"
    assert [path.name for path in herd.glob("*.merge")] == []
    assert all(row.status.is_fine for row in api.verify(herd=[herd], full=True))
    for path in herd.iterdir():
        if path.name.startswith(("base", "disk")) and not path.name.endswith((".seal", ".shadow")):
            qemu_img("check", "-q", path, codes=(0, 3))
    record_property("done", dict(done))
    assert done["clone 0"] > 0


class Worker:
    """One process: disks of its own on bases that all share, and what each of them must hold."""

    def __init__(self, herd: Path, number: int):
        self.herd, self.number = herd, number
        self.generator = random.Random(number)
        self.disks: dict[str, bytearray] = {}
        self.done: collections.Counter[str] = collections.Counter()
        self.made = 0

    def work(self, until: float) -> None:
        """Does one thing after the other, drawn by lot."""
        things: list[Callable[[], None]] = [self.clone, self.write, self.write_with_qemu, self.merge, self.verify, self.delete]
        while time.monotonic() < until:
            self.generator.choice(things if self.disks else [self.clone])()

    def clone(self) -> None:
        """Makes a disk on one of the bases, as it is at that time."""
        base = f"base{self.generator.randrange(BASES)}"
        name = f"disk-{self.number}-{self.made}"
        self.made += 1
        if self._do("clone", os.fspath(self.herd / base), os.fspath(self.herd / name)) == 0:
            self.disks[name] = bytearray(_shown(self.herd / name))

    def write(self) -> None:
        """Writes to a disk through cowherd."""
        name, at, length, byte = self._range()
        try:
            with api.open(self.herd / name, writable=True) as disk:
                disk.write(at, bytes([byte]) * length)
            self.disks[name][at : at + length] = bytes([byte]) * length
            self.done["write 0"] += 1
        except (api.MergePending, ImageInUse) as error:
            self.done[f"write {error.exit_code}"] += 1

    def write_with_qemu(self) -> None:
        """Writes to a disk through QEMU."""
        name, at, length, byte = self._range()
        done = qemu_io.run("-f", "qcow2", "-c", f"write -P {byte} {at} {length}", self.herd / name)
        if done.returncode == 0 and "wrote" in done.stdout:
            self.disks[name][at : at + length] = bytes([byte]) * length
        else:
            assert "lock" in done.stdout + done.stderr, done.stdout + done.stderr
        self.done[f"qemu-io {done.returncode}"] += 1

    def merge(self) -> None:
        """Merges a disk into its base, which others share: they must not notice."""
        name = self.generator.choice(list(self.disks))
        strategy = self.generator.choice(["preserve", "preserve", "fork"])
        code = self._do("merge", "--strategy", strategy, "--keep", "content", os.fspath(self.herd / name))
        if code == 0:
            self._check(name)

    def verify(self) -> None:
        """Looks at the whole herd, or at what one disk holds."""
        if self.generator.random() < 0.3:
            self._do("verify", *(["--full"] if self.generator.random() < 0.2 else []), "--herd", os.fspath(self.herd))
        else:
            self._check(self.generator.choice(list(self.disks)))

    def delete(self) -> None:
        """Deletes a disk of its own, or tries to delete a base that others need."""
        if self.generator.random() < 0.2:
            self._do("delete", os.fspath(self.herd / "base0"))
            return
        name = self.generator.choice(list(self.disks))
        if self._do("delete", "--purge", os.fspath(self.herd / name)) == 0:
            del self.disks[name]

    def _range(self) -> tuple[str, int, int, int]:
        at = self.generator.randrange(SIZE // UNIT - 8) * UNIT
        return (
            self.generator.choice(list(self.disks)),
            at,
            self.generator.randrange(1, 8) * UNIT,
            self.generator.randrange(1, 255),
        )

    def _check(self, name: str) -> None:
        assert _shown(self.herd / name) == bytes(self.disks[name]), f"{name} does not hold what was written to it"

    def _do(self, *words: str) -> int:
        code, said = _command(*words)
        self.done[f"{words[0]} {code}"] += 1
        assert code in ALLOWED, f"{words} exits {code}: {said}"
        return code


def _start(herd: Path, number: int) -> int:
    """Starts a worker in a process of its own."""
    process = os.fork()
    if process:
        return process
    worker, problem = Worker(herd, number), None
    try:
        os.setpgid(0, 0)
        worker.work(time.monotonic() + SECONDS)
    except BaseException:  # noqa: BLE001 - whatever it is, the test shall say so
        problem = traceback.format_exc()
    finally:
        disks = {name: bytes(content).hex() for name, content in worker.disks.items()}
        said = {"problem": problem, "disks": disks, "done": worker.done}
        (herd / f"worker{number}.said").write_text(json.dumps(said))
        os._exit(0)


def _await(processes: list[int], seconds: float) -> None:
    """Waits for all of them, and fails if one does not end."""
    left, until = set(processes), time.monotonic() + seconds
    while left and time.monotonic() < until:
        left = {process for process in left if os.waitpid(process, os.WNOHANG)[0] == 0}
        time.sleep(0.02)
    for process in left:
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
    assert not left, f"{len(left)} processes were still waiting for something after {seconds} s"


def _command(*words: str) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = guard.main(words)
    return code, said.getvalue()


def _shown(image: Path) -> bytes:
    """What a disk shows, once nobody is at work on it."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with api.open(image) as disk:
                return disk.read(0, disk.size)
        except ImageInUse:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
