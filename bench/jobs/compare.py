"""Comparisons that find the images equal, and so have to look at all of them."""

from __future__ import annotations

from bench import checks
from bench.commands import image_tool, qemu
from bench.inputs import CLUSTER, Workspace, overlay
from bench.job import Job, Side
from bench.places import MEMORY
from bench.ratio import Target


def _make_siblings(space: Workspace) -> None:
    size = space.scale.image
    for name in ("one.qcow2", "other.qcow2"):
        overlay(space.own / name, space.raw(size), "raw", size, seed=1, runs=size // CLUSTER // 100, clusters=1)


def _make_raw_and_qcow2(space: Workspace) -> None:
    space.qcow2(space.scale.image)


def _siblings(side: Side) -> tuple[str, ...]:
    return "compare", "-f", "qcow2", "-F", "qcow2", str(side.space.own / "one.qcow2"), str(side.space.own / "other.qcow2")


def _raw_and_qcow2(side: Side) -> tuple[str, ...]:
    size = side.space.scale.image
    return "compare", "-f", "raw", "-F", "qcow2", str(side.space.raw(size)), str(side.space.qcow2(size))


JOBS = (
    Job(
        name="compare-siblings",
        title="compare two siblings of a {image} base",
        peer="qemu-img compare",
        target=Target(0.05),
        setup=_make_siblings,
        theirs=lambda side: (qemu("plain", *_siblings(side)),),
        ours=lambda side: image_tool(*_siblings(side)),
        differs=checks.same_code,
        places=MEMORY,
    ),
    Job(
        name="compare-raw-qcow2",
        title="compare raw with its qcow2, {image}",
        peer="qemu-img compare",
        target=Target(0.7),
        setup=_make_raw_and_qcow2,
        theirs=lambda side: (qemu("plain", *_raw_and_qcow2(side)),),
        ours=lambda side: image_tool(*_raw_and_qcow2(side)),
        differs=checks.same_code,
        places=MEMORY,
    ),
)
