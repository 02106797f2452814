"""Jobs on metadata alone: check, map and measure of images whose every cluster is mapped and of ordinary ones, and create."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench import checks
from bench.commands import image_tool, qemu
from bench.inputs import Workspace, mapped, scattered, shuffle_tables
from bench.job import Job, Result, Side
from bench.places import EXT4_WARM, TMPFS
from bench.ratio import Target
from bench.scale import GIB

_QUESTIONS = {"check": 0.25, "map": 0.3, "measure": 0.3}
_ORDINARY_SIZE = 20 * GIB
_ORDINARY = Target(extra=0.015)


def _mapped(space: Workspace) -> Path:
    return space.once("mapped.qcow2", lambda path: mapped(path, space.scale.mapped))


def _shuffled(space: Workspace) -> Path:
    def make(path: Path) -> None:
        mapped(path, space.scale.mapped)
        shuffle_tables(path)

    return space.once("shuffled.qcow2", make)


def _scattered(space: Workspace) -> Path:
    return space.once("scattered.qcow2", lambda path: scattered(path, _ORDINARY_SIZE, space.scale.scattered))


def _ask(
    command: str,
    kind: str,
    title: str,
    target: Target,
    image: Callable[[Workspace], Path],
    places: tuple[str, ...] = (TMPFS,),
) -> Job:
    def setup(space: Workspace) -> None:
        image(space)

    def words(side: Side) -> tuple[str | Path, ...]:
        wanted = ("-O", "qcow2") if command == "measure" else ()
        return command, "--output=json", "-f", "qcow2", *wanted, image(side.space)

    return Job(
        name=f"{command}{kind}",
        title=f"{command} of a {title}",
        peer=f"qemu-img {command}",
        target=target,
        setup=setup,
        theirs=lambda side: (qemu("plain", *words(side)),),
        ours=lambda side: image_tool(*words(side)),
        differs=_same_check if command == "check" else checks.same_json,
        places=places,
    )


def _same_check(_space: Workspace, theirs: Result, ours: Result) -> str | None:
    """The reports are equal but for the file's name, which is the same, and facts that only one of them gives."""
    their, our = checks.document(theirs), checks.document(ours)
    wrong = {key: (their[key], our.get(key)) for key in their if their[key] != our.get(key)}
    return str(wrong) if wrong else None


def _create_words(side: Side) -> tuple[str, ...]:
    target = str(side.out / "new.qcow2")
    return "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", target, str(side.space.scale.mapped)


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

_ORDINARY_TITLE = "20 GiB image, {scattered} clusters in random order"
_ORDINARY_PLACES = (TMPFS, EXT4_WARM)

JOBS = (
    *(_ask(command, "", "{mapped} image, every cluster mapped", Target(ratio), _mapped) for command, ratio in _QUESTIONS.items()),
    *(
        _ask(command, "-shuffled", "{mapped} image, its tables shuffled", Target(ratio), _shuffled)
        for command, ratio in _QUESTIONS.items()
    ),
    *(_ask(command, "-ordinary", _ORDINARY_TITLE, _ORDINARY, _scattered, _ORDINARY_PLACES) for command in _QUESTIONS),
    _CREATE,
)
