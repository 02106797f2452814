"""Flattening of chains: cost is to follow the data, not the depth."""

from __future__ import annotations

from bench import checks
from bench.commands import converting, image_tool
from bench.inputs import Workspace, chain
from bench.job import BOTH, Job, Side
from bench.ratio import Target


def _flatten(which: str, target: float) -> Job:
    def depth(space: Workspace) -> int:
        return space.scale.depths[which == "deep"]

    def setup(space: Workspace) -> None:
        chain(space.own, space.qcow2(space.scale.image), "qcow2", space.scale.image, depth(space))

    def words(side: Side) -> tuple[str, ...]:
        top = side.space.own / f"layer-{depth(side.space) - 1:03}.qcow2"
        return "-f", "qcow2", "-O", "qcow2", str(top), str(side.out / "flat.qcow2")

    return Job(
        name=f"flatten-{which}",
        writes_much=True,
        title=f"flatten a chain of depth {{{which}}}, {{image}}",
        peer="qemu-img convert",
        target=Target(target),
        setup=setup,
        theirs=lambda side: converting(words(side)[-2], words(side)[-1], *words(side)[:-2]),
        ours=lambda side: image_tool("convert", *words(side)),
        differs=checks.same_image("flat.qcow2"),
        places=BOTH,
    )


JOBS = (_flatten("shallow", 0.5), _flatten("deep", 0.1))
