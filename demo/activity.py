"""What happens on the disks of the story: an upgrade of many files, months of a busy machine, an hour of a quiet one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from filesystem import Script

NEW_FILES, REMOVED_FILES = 300, 60
FOLDERS = ("/etc", "/home", "/var", "/var/log", "/var/mail", "/var/cache")
"""Folders that the disk has beside those of its files."""


def text(title: str, length: int) -> bytes:
    """Returns `length` bytes of text, the same for the same title."""
    lines, size, number = [], 0, 0
    while size < length:
        number += 1
        lines.append(f"{title}, line {number}: {'abcdefghijklmnopqrstuvwxyz'[number % 26 :]}\n".encode())
        size += len(lines[-1])
    return b"".join(lines)[:length]


def _upgrade(payload: Path, files: Sequence[str], release: str) -> Script:
    """Some of the old files removed, and new ones in folders all over the disk. The release decides what is in the new ones."""
    chance, script = Random("upgrade"), Script(payload)
    folders = sorted({path.rpartition("/")[0] for path in files})
    for path in chance.sample(files, REMOVED_FILES):
        script.remove(path)  # first, so that new files take the place of old ones on the disk
    for number in range(NEW_FILES):
        folder, length = chance.choice(folders), chance.randrange(500, 24_000)
        script.write(f"{folder}/release-{number:03}.new", text(f"release {release}, file {number:03}", length))
    return script


def upgrade(payload: Path, files: Sequence[str]) -> Script:
    """What somebody does to the base: 300 new files and 60 removed."""
    return _upgrade(payload, files, "13.2")


def busy(payload: Path, files: Sequence[str]) -> Script:
    """A machine that made the upgrade to the release before by itself, and has done a lot of other work since."""
    script = _upgrade(payload, files, "13.1")
    removed = {command.split()[1] for command in script.commands if command.startswith("rm ")}
    chance = Random("busy")
    for path in chance.sample([path for path in files if path not in removed], 150):
        script.replace(path, text(f"{path}, edited", chance.randrange(200, 40_000)))
    for number, (folder, length) in enumerate(_work(chance)):
        script.write(f"{folder}/{number:04}", text(f"{folder} of the busy machine, {number}", length))
    script.make_folder("/home/ann")
    script.write("/home/ann/thesis.tex", text("a thesis", 300_000))
    return script


def _work(chance: Random) -> Iterator[tuple[str, int]]:
    for _ in range(600):
        yield chance.choice(("/var/log", "/var/mail", "/var/cache")), chance.randrange(1_000, 60_000)


def quiet(payload: Path, files: Sequence[str]) -> Script:
    """A machine that was started once: a name, two logs, one file edited, one removed."""
    script = Script(payload)
    script.write("/etc/hostname", b"quiet\n")
    script.write("/var/log/boot.log", text("boot", 30_000))
    script.write("/var/log/auth.log", text("auth", 9_000))
    edited, removed = Random("quiet").sample(files, 2)
    script.replace(edited, text(f"{edited}, edited", 2_000))
    script.remove(removed)
    return script
