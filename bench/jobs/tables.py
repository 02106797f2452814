"""Jobs on metadata alone: check, map, measure and create of images whose every cluster is mapped, and info."""

from __future__ import annotations

from pathlib import Path

from bench import checks
from bench.commands import image_tool, qemu
from bench.inputs import Workspace, mapped, shuffle_tables
from bench.job import Job, Result, Side
from bench.ratio import Target

_QUESTIONS = {"check": 0.25, "map": 0.3, "measure": 0.3}


def _ask(command: str, target: float, *, shuffled: bool) -> Job:
    def image(space: Workspace) -> Path:
        return space.once("shuffled.qcow2" if shuffled else "mapped.qcow2", lambda path: make(space, path))

    def make(space: Workspace, path: Path) -> None:
        mapped(path, space.scale.mapped)
        if shuffled:
            shuffle_tables(path)

    def setup(space: Workspace) -> None:
        image(space)

    def words(side: Side) -> tuple[str | Path, ...]:
        wanted = ("-O", "qcow2") if command == "measure" else ()
        return command, "--output=json", "-f", "qcow2", *wanted, image(side.space)

    how = "its tables shuffled" if shuffled else "every cluster mapped"
    return Job(
        name=f"{command}-shuffled" if shuffled else command,
        title=f"{command} of a {{mapped}} image, {how}",
        peer=f"qemu-img {command}",
        target=Target(target),
        setup=setup,
        theirs=lambda side: (qemu("plain", *words(side)),),
        ours=lambda side: image_tool(*words(side)),
        differs=_same_check if command == "check" else checks.same_json,
    )


def _same_check(_space: Workspace, theirs: Result, ours: Result) -> str | None:
    """The reports are equal but for the file's name, which is the same, and facts that only one of them gives."""
    their, our = checks.document(theirs), checks.document(ours)
    wrong = {key: (their[key], our.get(key)) for key in their if their[key] != our.get(key)}
    return str(wrong) if wrong else None


def _create_words(side: Side) -> tuple[str, ...]:
    target = str(side.out / "new.qcow2")
    return "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", target, str(side.space.scale.mapped)


def _make_one(space: Workspace) -> None:
    space.qcow2(space.scale.small)


def _info_words(side: Side) -> tuple[str, ...]:
    return "info", "--output=json", str(side.space.qcow2(side.space.scale.small))


def _no_inputs(_space: Workspace) -> None:
    """A new image needs none."""


_CREATE = Job(
    name="create-metadata",
    title="create with preallocation=metadata, {mapped}",
    peer="qemu-img create",
    target=Target(0.3),
    setup=_no_inputs,
    theirs=lambda side: (qemu("plain", *_create_words(side)),),
    ours=lambda side: image_tool(*_create_words(side)),
    differs=checks.same_allocation("new.qcow2"),
)

_INFO = Job(
    name="info",
    title="info of one image, start to end",
    peer="qemu-img info",
    target=Target(extra=0.040),
    setup=_make_one,
    theirs=lambda side: (qemu("plain", *_info_words(side)),),
    ours=lambda side: image_tool(*_info_words(side)),
    differs=checks.same_json,
)

JOBS = (
    *(_ask(command, target, shuffled=shuffled) for shuffled in (False, True) for command, target in _QUESTIONS.items()),
    _CREATE,
    _INFO,
)
