"""Commands on one small image, start to end: most of their time goes into starting."""

from __future__ import annotations

from collections.abc import Callable

from bench import checks
from bench.commands import guard, image_tool, qemu
from bench.inputs import Workspace
from bench.job import Job, Result, Side
from bench.jobs.changes import run_now
from bench.measure import Command
from bench.ratio import Target

_SEALED = "sealed.qcow2"
_AT_ONCE = Target(seconds=0.035)


def _make_one(space: Workspace) -> None:
    space.qcow2(space.scale.small)


def _info_words(side: Side) -> tuple[str, ...]:
    return "info", "--output=json", str(side.space.qcow2(side.space.scale.small))


def _make_sealed(space: Workspace) -> None:
    """An image of 1 GiB without data, sealed, alone in its directory."""
    run_now(qemu("plain", "create", "-q", "-f", "qcow2", space.own / _SEALED, "1G").words)
    run_now(guard("seal", "--json", space.own / _SEALED).words)


def _look(command: str, differs: Callable[[Workspace, Result, Result], str | None]) -> Job:
    return Job(
        name=command,
        title=f"{command} of one sealed image, start to end",
        peer="qemu-img info",
        target=_AT_ONCE,
        setup=_make_sealed,
        theirs=lambda side: (qemu("plain", "info", "--output=json", side.space.own / _SEALED),),
        ours=lambda side: guard(command, "--json", side.space.own / _SEALED),
        differs=differs,
    )


def _listed(space: Workspace, _theirs: Result, ours: Result) -> str | None:
    paths = [image["path"] for image in checks.document(ours)["images"]]
    return None if paths == [str(space.own / _SEALED)] else f"tree lists {paths}"


def _shown(space: Workspace, _theirs: Result, ours: Result) -> str | None:
    path = checks.document(ours)["path"]
    return None if path == str(space.own / _SEALED) else f"show is about {path}"


def _verified(_space: Workspace, _theirs: Result, ours: Result) -> str | None:
    statuses = [image["status"] for image in checks.document(ours)["images"]]
    return None if statuses == ["ok"] else f"verify says {statuses}"


def _created(side: Side) -> tuple[Command, ...]:
    base, made = side.space.own / _SEALED, side.out / "new.qcow2"
    return (qemu("plain", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", made),)


_INFO = Job(
    name="info",
    title="info of one image, start to end",
    peer="qemu-img info",
    target=Target(extra=0.010),
    setup=_make_one,
    theirs=lambda side: (qemu("plain", *_info_words(side)),),
    ours=lambda side: image_tool(*_info_words(side)),
    differs=checks.same_json,
)

JOBS = (
    _INFO,
    _look("tree", _listed),
    _look("verify", _verified),
    _look("show", _shown),
    Job(
        name="clone",
        title="clone of a sealed image",
        peer="qemu-img create -b",
        target=Target(seconds=0.020),
        setup=_make_sealed,
        theirs=_created,
        ours=lambda side: guard("clone", "--json", side.space.own / _SEALED, side.out / "new.qcow2"),
        differs=checks.same_overlay("new.qcow2"),
    ),
)
