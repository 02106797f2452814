"""Small changes among many images: what it takes to know who depends on the base, and to keep each sibling as it is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import cowherd
from bench import checks
from bench.commands import guard, image_tool, qemu, shell
from bench.herds import make_herd
from bench.inputs import Workspace, copy, overlay
from bench.job import Job, Result, Side
from bench.jobs.catalog import knowing, settle_herd
from bench.jobs.changes import run_now
from bench.measure import Command
from bench.ratio import Target
from bench.scale import GIB, MIB

_SIZE = GIB
_DESCRIPTORS = 64
_LIMITED = f'ulimit -n {_DESCRIPTORS}; exec "$@"'
_PRESERVE = ("--strategy", "preserve")
_FEW, _MANY = "few", "many"
_HERDS = "herds"


def _make_base_and_top(folder: Path) -> None:
    """A base without data and an overlay of it with one cluster."""
    cowherd.create(folder / "base.qcow2", _SIZE)
    overlay(folder / "top.qcow2", Path("base.qcow2"), "qcow2", _SIZE, seed=1, runs=1, clusters=1)


def _gate(which: int, seconds: float) -> Job:
    """A commit in the herd of `Scale.herds[which]` images."""

    def setup(space: Workspace) -> None:
        _make_base_and_top(space.own)
        run_now(knowing(space, guard("tree", herd(space))).words)

    def herd(space: Workspace) -> Path:
        return space.once(_HERDS, lambda folder: _make_herds(folder, space.scale.herds)) / f"{which}"

    def ours(side: Side) -> Command:
        command = knowing(side.space, image_tool("commit", "-q", "-d", side.out / "top.qcow2"))
        return Command(command.label, ("env", f"COWHERD_HERD={herd(side.space)}", *command.words))

    return Job(
        name=f"gate-{('few', 'some', 'many')[which]}",
        title=f"commit one cluster in a herd of {{herds[{which}]:,}} images that the catalog knows",
        peer="qemu-img commit -d",
        target=Target(seconds=seconds),
        setup=setup,
        prepare=_fresh_base_and_top,
        theirs=lambda side: (qemu("plain", "commit", "-q", "-d", side.out / "top.qcow2"),),
        ours=ours,
        differs=checks.same_image("base.qcow2"),
    )


def _make_herds(folder: Path, sizes: Sequence[int]) -> None:
    for number, images in enumerate(sizes):
        make_herd(folder / f"{number}", images)
    settle_herd()


def _fresh_base_and_top(side: Side) -> None:
    for image in ("base.qcow2", "top.qcow2"):
        copy(side.space.own / image, side.out / image)


def _make_family(space: Workspace) -> None:
    _make_base_and_top(space.own)
    cowherd.create(
        space.own / "sibling.qcow2", _SIZE, backing="base.qcow2", backing_format="qcow2", unsafe=True, break_dependents=True
    )


def _fresh_families(side: Side) -> None:
    """Two families: in the one the overlay has a single sibling, in the other many."""
    for name, siblings in ((_FEW, 1), (_MANY, side.space.scale.herd)):
        folder = side.out / name
        folder.mkdir()
        for image in ("base.qcow2", "top.qcow2"):
            copy(side.space.own / image, folder / image)
        for number in range(siblings):
            shutil.copyfile(side.space.own / "sibling.qcow2", folder / f"sibling-{number:04}.qcow2")


def _merge(side: Side, family: str, *options: str) -> Command:
    return guard("merge", "--json", *options, side.out / family / "top.qcow2")


def _few_descriptors(side: Side, *options: str) -> Command:
    return shell("cowherd", _LIMITED, *_merge(side, _MANY, *options).words)


def _same_families(space: Workspace, theirs: Result, ours: Result) -> str | None:
    """Both bases hold the change, and the last sibling of each family reads as the first one of the other."""
    few, many = theirs.out / _FEW, ours.out / _MANY
    last = f"sibling-{space.scale.herd - 1:04}.qcow2"
    return checks.compared(few / "base.qcow2", many / "base.qcow2") or checks.compared(few / "sibling-0000.qcow2", many / last)


def _beside_siblings(name: str, how: str, target: Target, *options: str) -> Job:
    """A merge of one cluster, held against one beside a single sibling."""
    return Job(
        name=name,
        title=f"merge one cluster beside {{herd}} siblings{how}, {_DESCRIPTORS} descriptors at most",
        peer="cowherd merge beside one sibling",
        target=target,
        setup=_make_family,
        prepare=_fresh_families,
        theirs=lambda side: (_merge(side, _FEW, *options),),
        ours=lambda side: _few_descriptors(side, *options),
        differs=_same_families,
    )


JOBS = (
    _gate(0, 0.060),
    _gate(1, 0.070),
    _gate(2, 0.250),
    _beside_siblings("merge-siblings", "", Target(extra=1.0, peak=100 * MIB)),
    _beside_siblings("merge-preserving", ", each of which keeps what it shows in itself", Target(peak=100 * MIB), *_PRESERVE),
)
