"""ext4 on a raw disk, made, changed and read by e2fsprogs alone: what a guest sees, without a guest and without root."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stage import Stage, StoryBroken

PROGRAMS = ("mke2fs", "debugfs", "e2fsck")
CLEAN, UNCORRECTED = 0, 4
"""Two exit codes of e2fsck -fn: no error, and errors found and left."""

_IDENTITY = "c0c0c0c0-0000-4000-8000-000000000001"
_CLOCK = "1767225600"  # what e2fsprogs take for the time, so that each run makes the same disk from the same files
_SAFE_PATH = re.compile(r"[A-Za-z0-9_.+@/:=,-]+")  # debugfs takes its commands as lines of words

_LARGEST = 512 << 10
_FILES_OF_A_FOLDER = 40


@dataclass
class Script:
    """Commands for debugfs. `payload` is the host's folder for the files that it copies in."""

    payload: Path
    commands: list[str] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    """The SHA-256 of each file that it writes, by the file's path on the disk."""

    def write(self, path: str, content: bytes) -> None:
        """Makes a file of the disk; its folder is there, and it is not."""
        self.written[path] = hashlib.sha256(content).hexdigest()
        source = self.payload / f"{len(self.commands):05}"
        source.write_bytes(content)
        folder, _, name = path.rpartition("/")
        self.commands += [f"cd {folder or '/'}", f"write {source} {name}"]

    def replace(self, path: str, content: bytes) -> None:
        """Gives a file new content, as package managers and editors do: a new file takes its name."""
        self.remove(path)
        self.write(path, content)

    def remove(self, path: str) -> None:
        """Removes a file."""
        self.commands.append(f"rm {path}")

    def make_folder(self, path: str) -> None:
        """Makes a folder whose parent is there."""
        self.commands.append(f"mkdir {path}")


class FileSystem:
    """The ext4 file system on the whole of a raw disk."""

    def __init__(self, stage: Stage, disk: Path):
        self._stage, self.disk = stage, disk
        stage.environment["E2FSPROGS_FAKE_TIME"] = _CLOCK

    def make(self, tree: Path, size: int) -> None:
        """Makes the disk, `size` bytes, with everything under `tree` on it."""
        settings = f"root_owner=0:0,hash_seed={_IDENTITY},lazy_itable_init=1"
        command = ("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-U", _IDENTITY, "-E", settings, "-d", tree, self.disk)
        self._stage.ask(*command, f"{size >> 20}M")

    def change(self, script: Script) -> None:
        """Lets debugfs, which writes ext4 with the same library as e2fsck, carry out a script."""
        file = script.payload / "script"
        file.write_text("".join(f"{command}\n" for command in script.commands))
        done = self._debugfs("-w", "-f", str(file))
        complaints = done.stderr.splitlines()[1:]  # the first line is its version
        if done.returncode or complaints:
            raise StoryBroken(f"debugfs could not change {self.disk}: {complaints[:3]}")

    def files(self, scratch: Path) -> dict[str, str]:
        """Returns the SHA-256 of every file that can still be read, by its path; what is broken is left out."""
        scratch.mkdir()
        self._debugfs("-c", "-R", f"rdump / {scratch}")
        return dict(_hashes(scratch))

    def _debugfs(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["debugfs", *arguments, str(self.disk)],
            env=self._stage.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )


def _hashes(top: Path) -> Iterator[tuple[str, str]]:
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in names:
            file = Path(folder, name)
            if file.is_file() and not file.is_symlink():
                yield f"/{file.relative_to(top)}", hashlib.sha256(file.read_bytes()).hexdigest()


def collect(roots: tuple[str, ...], target: Path, total: int, count: range) -> list[str]:
    """Copies real files of the host from under `roots` into `target`; returns their paths, sorted.

    Up to `total` bytes of files that this user may read, not large ones, and not too many of a folder; `count` is how many
    there may be. Raises `StoryBroken` if there are fewer.
    """
    taken: list[str] = []
    size = 0
    for path in _readable(roots):
        content = Path(path).read_bytes()
        if size + len(content) > total or len(taken) + 1 == count.stop:
            break
        copy = target / path.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
        taken.append(path)
        size += len(content)
    if len(taken) < count.start:
        raise StoryBroken(f"only {len(taken)} readable files under {' and '.join(roots)}; the story needs {count.start}")
    return sorted(taken)


def _readable(roots: tuple[str, ...]) -> Iterator[str]:
    for root in roots:
        for folder, folders, names in os.walk(root):
            folders.sort()
            paths = (os.path.join(folder, name) for name in sorted(names))
            yield from [path for path in paths if _suits(path)][:_FILES_OF_A_FOLDER]


def _suits(path: str) -> bool:
    if not _SAFE_PATH.fullmatch(path) or os.path.islink(path) or not os.access(path, os.R_OK):
        return False
    return os.path.isfile(path) and 0 < os.path.getsize(path) <= _LARGEST
