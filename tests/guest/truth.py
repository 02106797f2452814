"""Ground truth about what is inside of a disk: the kernel's own file systems, mounted, and the file systems' own checkers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.herd.qemu_herd import qemu_img, write
from tests.storage.hosts import require_root, run

PAGE = 4096
_ROOM = 2 << 30
_MOUNTED: set[str] = set()
"""What was found to be mountable here, by the command that makes it."""


def require(*programs: str) -> None:
    """Skips the running test where a program is missing; in CI, where it must be there, fails it."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"{' and '.join(missing)} not installed")
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")


@dataclass(frozen=True)
class Kind:
    """A file system, the commands that make, mount and check it, and how large it is made."""

    name: str
    make: Sequence[str]
    check: Sequence[str]
    options: str = ""
    """Mount options for reading a file system that may be damaged, as it stands."""
    size: int = 48 << 20
    mount: Sequence[str] = ("mount",)
    writing: str = ""
    exact: bool = True
    """Whether its checker finds all that is torn; one that finds nothing may have overlooked it."""


EXT4 = Kind("ext4", ["mke2fs", "-q", "-t", "ext4"], ["e2fsck", "-fn"], "ro,noload")
EXT4_MORE = Kind("ext4 with more", [*EXT4.make, "-O", "inline_data,ea_inode,meta_bg,^resize_inode"], EXT4.check, EXT4.options)
EXT4_BIG = Kind("ext4 in clusters", [*EXT4.make, "-O", "bigalloc", "-C", "16384"], EXT4.check, EXT4.options)
EXT3 = Kind("ext3", ["mke2fs", "-q", "-t", "ext3"], ["e2fsck", "-fn"], "ro,noload")
NTFS = Kind("NTFS", ["mkfs.ntfs", "-q", "-F"], ["ntfsfix", "-n"], "ro,norecover", mount=("mount", "-t", "ntfs-3g"), exact=False)
FAT16 = Kind("FAT16", ["mkfs.fat", "-F", "16"], ["fsck.fat", "-n"], mount=("mtools",))
FAT32 = Kind("FAT32", ["mkfs.fat", "-F", "32", "-s", "1"], ["fsck.fat", "-n"], mount=("mtools",))
_SMALL_XFS = ["env", "TEST_DIR=.", "TEST_DEV=.", "QA_CHECK_FS=.", "mkfs.xfs", "-q", "-f", "-d", "agcount=2"]
"""mkfs.xfs makes file systems of less than 300 MiB only for tests, which it knows by these variables."""
XFS = Kind("XFS", _SMALL_XFS, ["xfs_repair", "-n"], "ro,norecovery,nouuid", size=40 << 20, writing="nouuid")
BTRFS = Kind("btrfs", ["mkfs.btrfs", "-q"], ["btrfs", "check", "--readonly"], "ro,rescue=nologreplay", size=128 << 20)
EXT2 = Kind("ext2", ["mke2fs", "-q", "-t", "ext2", "-b", "4096"], ["e2fsck", "-fn"], "ro")


@contextlib.contextmanager
def mounted(raw: Path, kind: Kind, options: str = "", offset: int = 0) -> Iterator[Path]:
    """Mounts a file system that lies in a file; skips where that is not permitted."""
    folder = raw.with_name(raw.name + ".mounted")
    folder.mkdir(exist_ok=True)
    if kind.mount == ("mtools",):
        with _copied(raw, folder):
            yield folder
        return
    require_root()
    words = ",".join(filter(None, ["loop", options, f"offset={offset},sizelimit={kind.size}" if offset else ""]))
    done = subprocess.run([*kind.mount, "-o", words, str(raw), str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(done.stderr)
    try:
        yield folder
    finally:
        run("umount", folder)


@contextlib.contextmanager
def _copied(raw: Path, folder: Path) -> Iterator[None]:
    """Gives what is in a FAT file system as a folder, and does to the file system what is then done to the folder."""
    shutil.rmtree(folder)
    folder.mkdir()
    _copy_out(raw, folder)
    before = listing(folder)
    yield
    after = listing(folder)
    for path in sorted(before.keys() - after.keys(), reverse=True):
        _mtools("mrd" if path.endswith("/") else "mdel", "-i", raw, f"::{path.rstrip('/')}")
    for path in sorted(path for path in after if after[path] != before.get(path)):
        if path.endswith("/"):
            _mtools("mmd", "-i", raw, f"::{path.rstrip('/')}")
        else:
            _mtools("mcopy", "-o", "-i", raw, f"{folder}{path}", f"::{path}")


def _copy_out(raw: Path, folder: Path) -> None:
    try:
        _mtools("mcopy", "-s", "-n", "-Q", "-i", raw, "::*", folder, may_be_empty=True)
    except OSError:  # it gave up at something damaged: the rest one by one
        shutil.rmtree(folder)
        folder.mkdir()
        listed = subprocess.run(["mdir", "-/", "-b", "-a", "-i", str(raw), "::"], capture_output=True, text=True, check=False)
        for path in (line.removeprefix("::") for line in listed.stdout.splitlines()):
            if path.endswith("/"):
                Path(f"{folder}{path}").mkdir(parents=True, exist_ok=True)
                continue
            Path(f"{folder}{path}").parent.mkdir(parents=True, exist_ok=True)
            try:
                _mtools("mcopy", "-n", "-Q", "-i", raw, f"::{path}", f"{folder}{path}")
            except OSError:
                Path(f"{folder}{path}").unlink(missing_ok=True)


def _mtools(*command: str | Path, may_be_empty: bool = False) -> None:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, env={**os.environ, "MTOOLS_SKIP_CHECK": "1"}
    )
    if done.returncode and not (may_be_empty and "not found" in done.stderr):
        raise OSError(done.stderr)


def require_mounts(tmp_path: Path, kind: Kind) -> None:
    """Skips the running test where such a file system can't be made and mounted."""
    require(*(word for word in kind.make if word.startswith("mk")), kind.check[0])
    if kind.mount == ("mtools",):
        require("mcopy")
    else:
        require_root()
    if " ".join(kind.make) in _MOUNTED:
        return
    raw = tmp_path / "probe"
    with raw.open("wb") as file:
        file.truncate(kind.size)
    run(*kind.make, raw)
    try:
        with mounted(raw, kind, kind.writing):
            _MOUNTED.add(" ".join(kind.make))
    except OSError as error:
        pytest.skip(f"can't mount: {error}")
    finally:
        raw.unlink()


def listing(folder: Path, known: Iterable[str] = ()) -> dict[str, str]:
    """Every readable path below a folder with a digest of what it holds; directories end with a slash.

    `known` are paths that may be there though no directory that can be read names them.
    """
    found: dict[str, str] = {}
    pending = [folder]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue
        for entry in entries:
            path = "/" + os.path.relpath(entry.path, folder)
            try:
                is_directory = stat.S_ISDIR(os.lstat(entry.path).st_mode)  # the entry itself may say otherwise
                found |= {f"{path}/" if is_directory else path: _digest(Path(entry.path))}
            except OSError:
                continue
            if is_directory:
                pending.append(Path(entry.path))
    for path in known:
        with contextlib.suppress(OSError):
            if path.rstrip("/") not in {path.rstrip("/") for path in found}:
                is_directory = stat.S_ISDIR(os.lstat(f"{folder}{path.rstrip('/')}").st_mode)
                found[f"{path.rstrip('/')}/" if is_directory else path.rstrip("/")] = _digest(Path(f"{folder}{path}"))
    return found


def _digest(path: Path) -> str:
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        return "link to " + os.readlink(path)
    if stat.S_ISREG(info.st_mode):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{stat.S_IFMT(info.st_mode):o} {info.st_rdev if not stat.S_ISDIR(info.st_mode) else ''}"


@contextlib.contextmanager
def in_memory(scratch: Path) -> Iterator[Path]:
    """Gives a directory in memory for what is mounted, where there is room: each mount waits for a disk several times."""
    shared = Path("/dev/shm")
    has_room = shared.is_dir() and shutil.disk_usage(shared).free > _ROOM
    with tempfile.TemporaryDirectory(dir=shared if has_room else scratch) as folder:
        yield Path(folder)


def raw_of(image: Path, scratch: Path) -> Path:
    """What an image shows, as a raw file."""
    raw = scratch / f"{image.name}.raw"
    qemu_img("convert", "-O", "raw", image, raw)
    return raw


def listing_of(image: Path, scratch: Path, kind: Kind, offset: int = 0, known: Iterable[str] = ()) -> dict[str, str] | None:
    """What is in the file system that an image shows, as the kernel reads it; None if it can't be mounted."""
    with in_memory(scratch) as near:
        try:
            with mounted(raw_of(image, near), kind, kind.options, offset) as folder:
                return listing(folder, known)
        except OSError:
            return None


def is_clean(image: Path, scratch: Path, kind: Kind, offset: int = 0, size: int | None = None) -> bool:
    """What the file system's own checker says of it."""
    with in_memory(scratch) as near:
        part = near / "checked"
        with raw_of(image, near).open("rb") as file, part.open("wb") as out:
            file.seek(offset)
            out.write(file.read(-1 if size is None else size))
        return subprocess.run([*kind.check, str(part)], capture_output=True, check=False).returncode == 0


def guest_writes(
    image: Path,
    scratch: Path,
    kind: Kind,
    work: Callable[[Path], None],
    *,
    format: str,
    offset: int = 0,
    crashes: bool = False,
) -> None:
    """Lets `work` change the mounted file system of what an image shows, and writes the changed pages back as a guest does.

    One that `crashes` does not unmount it, so that what it wrote last is in the log.
    """
    with in_memory(scratch) as near:
        raw = near / "guest.raw"
        qemu_img("convert", "-f", format, "-O", "raw", image, raw)
        before = raw.read_bytes()
        with mounted(raw, kind, kind.writing, offset) as folder:
            work(folder)
            if crashes:
                run("sync", "-f", folder)
                (folder / "last").write_text("before the crash")
                descriptor = os.open(folder / "last", os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)
                after = raw.read_bytes()
        if not crashes:
            after = raw.read_bytes()
    writes = []
    pieces = scratch / "pieces"
    pieces.mkdir()
    for start in range(0, len(before), PAGE):
        if before[start : start + PAGE] != after[start : start + PAGE]:
            piece = pieces / str(start)
            piece.write_bytes(after[start : start + PAGE])
            writes.append(f"write -s {piece} {start} {len(after[start : start + PAGE])}")
    for first in range(0, len(writes), 500):
        write(image, *writes[first : first + 500], format=format)
    shutil.rmtree(pieces)


def fill(folder: Path, seed: int, count: int = 60) -> None:
    """Puts a tree of directories, files, links and holes into a folder."""
    chance = random.Random(seed)
    for number in range(count):
        directory = folder / f"dir{number % 7}"
        directory.mkdir(exist_ok=True)
        (directory / f"file{number}").write_bytes(chance.randbytes(chance.choice([10, 300, 5000, 70000, 200000])))
    with (folder / "sparse").open("wb") as file:
        file.seek(900000)
        file.write(b"end")


def churn(folder: Path, seed: int, changes: int) -> None:
    """Changes some files of a folder: overwrites, appends, deletes, makes, renames."""
    chance = random.Random(seed)
    for number in range(changes):
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.name != "sparse")
        path = chance.choice(files)
        action = chance.choice(["overwrite", "append", "delete", "make", "rename"])
        if action == "overwrite":
            with path.open("r+b") as file:
                file.seek(chance.randrange(max(path.stat().st_size, 1)))
                file.write(chance.randbytes(chance.randrange(1, 9000)))
        elif action == "append":
            with path.open("ab") as file:
                file.write(chance.randbytes(chance.randrange(1, 90000)))
        elif action == "delete":
            path.unlink()
        elif action == "make":
            (folder / f"made{seed}-{number}").mkdir()
            (folder / f"made{seed}-{number}" / "file").write_bytes(chance.randbytes(chance.randrange(1, 90000)))
        else:
            path.rename(path.with_name(f"renamed{seed}-{number}"))
