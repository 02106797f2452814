"""Every command ends with an exit code on every image of the corpus, at little cost, and opens nothing that it need not.

Every fourth image meets one command; with COWHERD_CORPUS=all each meets all of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowherd.ops.create import create
from cowherd.storage.state import state_directories
from tests.hostile.commands import ALONE, COMMANDS, Runner
from tests.hostile.corpus import CLUSTER, NAMES, Case, corpus, seed

CASES = corpus()
EVERYTHING = os.environ.get("COWHERD_CORPUS") == "all"
DECOYS = {b"../../../../etc/shadow": b"../secret/./././././sh", b"/etc/passwd": b"../secret/p"}
"""What stands in the images instead of the names of system files."""
SECRET = b"secret" * 100
BELOW = ("cowherd-img commit", "cowherd-img commit into", "cowherd merge", "cowherd bind")
"""Commands that are told to write into a backing file, or a seal beside it; the test stops them where that lies outside."""


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner() as server:
        yield server


def _prepare(case: Case, folder: Path) -> dict[str, str]:
    """Makes a folder with the hostile image, an overlay of it, and a sound image; names of system files lead to decoys."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    image, overlay = case.write(folder / "image"), folder / "overlay"
    for name, decoy in DECOYS.items():
        _replace(image, name, decoy)
        place = Path(os.path.normpath(folder / decoy.decode()))
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(SECRET)
    create(overlay, 1 << 20, backing="image", backing_format=case.format, unsafe=True)
    places = {"FORMAT": case.format, "IMAGE": str(image), "OVERLAY": str(overlay), "DIR": str(folder), "OUT": str(folder / "out")}
    return places | {"SOUND": str(seed().write(folder / "sound"))}


def _replace(image: Path, name: bytes, decoy: bytes) -> None:
    assert len(name) == len(decoy)
    with image.open("r+b") as file:
        head = file.read(CLUSTER)
        file.seek(0)
        file.write(head.replace(name, decoy))


def _decoys(folder: Path) -> set[str]:
    """The decoys, and what is looked for beside a base."""
    names = ("p", "sh", "p.seal", "sh.seal", "p.merge", "sh.merge")
    return {str(folder.parent / "secret" / name) for name in names} | {str(folder.parent / "secret"), str(folder.parent)}


def _is_log(path: str) -> bool:
    """Whether a path is that of the log of what cowherd did, or of the directory of its state."""
    return any(path == state or path.startswith(os.path.join(state, "log")) for state in state_directories())


def _chosen(number: int) -> list[str]:
    names = list(COMMANDS)
    return names if EVERYTHING else [names[number // 4 % len(names)]]


@pytest.mark.parametrize("number", range(0, len(CASES), 1 if EVERYTHING else 4), ids=lambda number: str(CASES[number]))
def test_a_command_ends_soundly(number: int, runner: Runner, tmp_path: Path):
    case, folder = CASES[number], tmp_path / "herd"
    found = {}
    for name in _chosen(number):
        outcome = runner.run(name, _prepare(case, folder), folder)
        outside = {path for path in outcome.opened if not path.startswith(f"{folder}")}
        allowed = _decoys(folder) if case.category == "backing files" and name not in ALONE else set()
        problem, secret = outcome.problem, str(folder.parent / "secret")
        outside = {path for path in outside if not (allowed and path.startswith(secret))}
        if not outside <= allowed:
            problem = f"opened {sorted(outside - allowed)[:9]}"
        changed = {path for path in outcome.changed if not _is_log(path)}
        if changed and not (name in BELOW and all(path.startswith(secret) for path in changed)):
            problem = f"would have changed {sorted(changed)[:9]}"
        if any(Path(decoy).read_bytes() != SECRET for decoy in _decoys(folder) if Path(decoy).name in ("p", "sh")):
            problem = "changed a file outside"
        if problem:
            found[name] = problem
    assert not found, "\n".join(f"{name}: {problem}" for name, problem in found.items())


def test_the_guard_never_shows_names_as_they_are(runner: Runner, tmp_path: Path):
    case = next(case for case in CASES if case.name == "newline and escape" and case.category == "backing files")
    assert b"\x1b" in NAMES[case.name]
    for name in COMMANDS:
        if name.startswith("cowherd "):  # cowherd-img gives a pipe the bytes that qemu-img gives, and escapes for terminals
            folder = tmp_path / "herd"
            assert "\x1b" not in runner.run(name, _prepare(case, folder), folder).output, name
