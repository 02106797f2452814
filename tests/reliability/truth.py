"""What must be true of a herd whatever interrupted a job on it: before it is recovered, after that, and after a second run."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from cowherd import api
from cowherd.errors import CowherdError
from cowherd.herd.records.sealplace import forget_listing, kept_under
from cowherd.herd.records.status import Status
from tests.herd.qemu_herd import qemu_img
from tests.reliability.calls import quick_flushes
from tests.reliability.jobs import Job, Outcome, run
from tests.reliability.world import World

TRASH = ".cowherd-trash"
_TRASH_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
_TEMPORARY = re.compile(r"\.cowherd-[0-9a-f]{16}")
_MAGIC = b"QFI\xfb"


@dataclass
class Disks:
    """The images in a directory: what those show that can be read, and which bytes those that can't consist of."""

    shown: dict[str, bytes] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    seals: set[str] = field(default_factory=set)
    """The names of seals, wherever they lie: in the trash, too."""

    def signatures(self) -> set[str]:
        """What is there, whatever it is called."""
        return {hashlib.sha256(content).hexdigest() for content in self.shown.values()} | set(self.files.values())


def disks_in(root: Path, raw: frozenset[str]) -> Disks:
    """Reads every image under `root`, also those in the trash; unfinished files are none."""
    found = Disks()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name.endswith(".seal"):
            found.seals.add(path.name)
        if not path.is_file() or _TEMPORARY.search(name) or name.endswith((".seal", ".shadow", ".merge", ".json")):
            continue
        data = path.read_bytes()
        if not data.startswith(_MAGIC) and name not in raw:
            found.unreadable[name] = "it is no image"
            continue
        found.modes[name] = stat.S_IMODE(path.stat().st_mode)
        found.files[name] = hashlib.sha256(data).hexdigest()
        try:
            with api.open(path, format="raw" if name in raw else "qcow2", force_share=True) as disk:
                found.shown[name] = disk.read(0, disk.size)
        except CowherdError as error:
            found.unreadable[name] = str(error)
    return found


@dataclass(frozen=True)
class Expected:
    """A job's herd before it and after it, and what verify said."""

    job: Job
    before: World
    first: Disks
    last: Disks
    names: frozenset[str]
    code: int
    fine: bool
    """Whether all was well with the herd after the job."""


def names_in(root: Path) -> frozenset[str]:
    """Every name under `root`; where it is drawn by lot, that is left out."""
    return frozenset(_TRASH_ID.sub("ID", path.relative_to(root).as_posix()) for path in root.rglob("*"))


def statuses(root: Path, *, full: bool = False) -> dict[str, Status]:
    """What verify says of each image."""
    rows = api.verify(herd=[root], full=full)
    return {row.path.relative_to(root).as_posix(): row.status for row in rows}


def all_fine(root: Path) -> bool:
    """Whether verify finds nothing wrong after reading everything."""
    return all(status.is_fine for status in statuses(root, full=True).values())


class Untrue(AssertionError):
    """Something that must be true is not."""


def assert_interrupted_well(expected: Expected, root: Path, *, again: bool = False) -> None:
    """Checks a herd in which the job was interrupted and nothing done since; `again`: as it was done a second time."""
    found = disks_in(root, expected.job.raw)
    _assert_old_or_new(expected, found)
    _assert_nothing_lost(expected, found)
    for name in found.files:
        unborn = name in expected.job.scrap and (again or name not in found.shown or name in expected.first.files)
        if name not in expected.job.raw and not unborn:
            _assert_sound(root / name)
    _assert_honest(root)


def assert_lasting(expected: Expected, root: Path) -> None:
    """Checks what is there at least after a power cut right behind the job: all disks and names, and no journal any more.

    Rubbish may come back: unfinished files, and a trash that is empty.
    """
    now, names = disks_in(root, expected.job.raw), names_in(root)
    if now.shown != expected.last.shown:
        raise Untrue("what the job has done is not durable")
    if missing := expected.names - names:
        raise Untrue(f"{sorted(missing)} is not durable")
    if back := _left_over(expected, root) - {TRASH} - expected.job.scrap:
        raise Untrue(f"{sorted(back)} comes back")


def do_again(expected: Expected, root: Path) -> Outcome:
    """Does what a user does after an interruption: recovers what was interrupted, and gives the same command again."""
    if any(root.rglob("*.merge")):
        done = run(root, "guard", "recover", "{}")
        if done.code:
            raise Untrue(f"recover exits {done.code}: {done.err}{done.out}")
    outcome = expected.job.run(root)
    if outcome.code not in (expected.code, *expected.job.again):
        raise Untrue(f"the second run exits {outcome.code}: {outcome.err}{outcome.out}")
    return outcome


def assert_recovers(expected: Expected, root: Path) -> None:
    """Ends what was interrupted and does the job again; then everything is as if nothing had happened."""
    with quick_flushes():
        if any(root.rglob("*.merge")):
            done = run(root, "guard", "recover", "{}")
            if done.code:
                raise Untrue(f"recover exits {done.code}: {done.err}{done.out}")
            recovered = disks_in(root, expected.job.raw)
            _assert_old_or_new(expected, recovered, whole=True)
            _assert_nothing_lost(expected, recovered)
        _assert_done_again(expected, root, expected.job.run(root))


def _assert_done_again(expected: Expected, root: Path, outcome: Outcome) -> None:
    if outcome.code not in (expected.code, *expected.job.again):
        raise Untrue(f"the second run exits {outcome.code}: {outcome.err}{outcome.out}")
    now = disks_in(root, expected.job.raw)
    for name, content in expected.last.shown.items():
        if TRASH not in name and now.shown.get(name) != content:
            raise Untrue(f"after the second run {name} is not as the job makes it: {now.unreadable.get(name, 'other content')}")
    _assert_nothing_lost(expected, now)
    if _left_over(expected, root):
        run(root, "guard", "gc", "--clean", "{}")
    if extra := _left_over(expected, root):
        raise Untrue(f"left over: {sorted(extra)} (the second run said {outcome.err})")
    missing = expected.names - names_in(root) - expected.job.not_again - _kept_elsewhere(root)
    if outcome.code == 0 and missing:
        raise Untrue(f"after the second run these are not there: {sorted(missing)} (it said {outcome.err})")
    whole = not expected.names - names_in(root)
    if whole and (other := [name for name, mode in expected.last.modes.items() if now.modes.get(name, mode) != mode]):
        raise Untrue(f"after the second run {other} has other permission bits")
    if expected.fine and not all_fine(root):
        raise Untrue(f"after the second run, verify says {statuses(root, full=True)}")


def _left_over(expected: Expected, root: Path) -> set[str]:
    """Names that the job leaves nobody; unfinished files, which gc removes after an hour, don't count."""
    return {name for name in names_in(root) - expected.names if not _TEMPORARY.fullmatch(Path(name).name)}


def _kept_elsewhere(root: Path) -> set[str]:
    """The names of seals that are not beside their images: those could not be written to when they were sealed."""
    forget_listing()
    kept = kept_under({os.path.realpath(path) for path in (root, *root.rglob("*")) if path.is_dir()})
    return {Path(image).relative_to(os.path.realpath(root)).as_posix() + ".seal" for image, _, _ in kept}


def _assert_old_or_new(expected: Expected, found: Disks, *, whole: bool = False) -> None:
    first, last = expected.first.shown, expected.last.shown
    for name in (first.keys() | last.keys()) - expected.job.scrap:
        if name not in found.shown:
            if name in first and name in last:
                raise Untrue(f"{name} can't be read: {found.unreadable.get(name, 'it is gone')}")
            if name in found.unreadable and TRASH not in name and name not in expected.first.unreadable:
                raise Untrue(f"{name} is there and can't be read: {found.unreadable[name]}")
            continue
        possible = [disks[name] for disks in (first, last) if name in disks]
        if not (found.shown[name] in possible if whole else _is_mixed(found.shown[name], possible)):
            raise Untrue(f"{name} shows something that is neither old nor new")


def _is_mixed(content: bytes, possible: list[bytes]) -> bool:
    if len(content) not in {len(one) for one in possible}:
        return False
    found = np.frombuffer(content, np.uint8)
    right = np.zeros(len(content), np.bool_)
    for one in possible:
        there = np.zeros(len(content), np.uint8)
        shared = min(len(one), len(content))
        there[:shared] = np.frombuffer(one, np.uint8, shared)
        right |= found == there
    return bool(right.all())


def _assert_nothing_lost(expected: Expected, found: Disks) -> None:
    """Every disk of before that is there afterwards is there, be it under another name, and whether it can be opened or not."""
    first, last, job = expected.first, expected.last, expected.job
    if gone := (first.files.keys() & last.files.keys()) - found.files.keys() - job.scrap:
        raise Untrue(f"{sorted(gone)} is gone")
    if gone := (first.seals & last.seals) - found.seals:
        raise Untrue(f"{sorted(gone)} is gone")
    contents = {hashlib.sha256(content).hexdigest() for content in found.shown.values()}
    for name, content in first.shown.items():
        sign = hashlib.sha256(content).hexdigest()
        if sign in last.signatures() and sign not in contents and name not in job.scrap:
            raise Untrue(f"the content of {name} is nowhere")
    for name, sign in first.files.items():  # what can't be opened where it lies, before or afterwards, is known by its bytes
        if sign in last.files.values() and sign not in found.files.values() and not contents & _shown_by(sign, first, last):
            raise Untrue(f"the file of {name} is nowhere, nor is what it showed")


def _shown_by(sign: str, *all_disks: Disks) -> set[str]:
    """What images with a file of these bytes show."""
    names = [(disks, name) for disks in all_disks for name, file in disks.files.items() if file == sign]
    return {hashlib.sha256(disks.shown[name]).hexdigest() for disks, name in names if name in disks.shown}


def _assert_sound(path: Path) -> None:
    data = path.read_bytes()
    if problem := _check(data):
        raise Untrue(f"qemu-img check of {path.name}: {problem}")


_checked: dict[bytes, str] = {}


def _check(data: bytes) -> str:
    """What qemu-img check finds besides leaks in a file with these bytes, by itself and once."""
    key = hashlib.sha256(data).digest()
    if key not in _checked:
        with _scratch() as path:
            path.write_bytes(data)
            description = f'json:{{"driver":"qcow2","backing":null,"file":{{"driver":"file","filename":"{path}"}}}}'
            done = qemu_img.run("check", description)
            _checked[key] = "" if done.returncode in (0, 3) else done.stdout + done.stderr
            if done.returncode == 3:
                repaired = qemu_img.run("check", "-r", "leaks", "-f", "qcow2", description)
                _checked[key] = "" if qemu_img.run("check", description).returncode == 0 else repaired.stdout + repaired.stderr
    return _checked[key]


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    path = _scratch_directory() / "checked"
    yield path
    path.unlink(missing_ok=True)


@cache
def _scratch_directory() -> Path:
    directory = tempfile.mkdtemp(prefix="cowherd-checked-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Path(directory)


def _assert_honest(root: Path) -> None:
    """What the quick verify calls fine must be so when it is read."""
    quick, full = statuses(root), statuses(root, full=True)
    for name, status in quick.items():
        if status.is_fine and not full[name].is_fine:
            raise Untrue(f"verify calls {name} {status}, and --full {full[name]}")


def assert_fault_done_with(expected: Expected, root: Path, outcome: Outcome) -> None:
    """Checks a herd after a job that met a fault and ended by itself: nothing is lost, and success is success."""
    found = disks_in(root, expected.job.raw)
    if outcome.code == expected.code == 0:
        for name, content in expected.last.shown.items():
            if TRASH not in name and found.shown.get(name) != content:
                raise Untrue(f"it says that it succeeded, and {name} is not as it should be")
    _assert_old_or_new(expected, found)
    _assert_nothing_lost(expected, found)
    for name in found.files:
        if name not in expected.job.scrap | expected.job.raw:
            _assert_sound(root / name)
    _assert_honest(root)
