"""Flattening of chains: cost is to follow the data, not the depth."""

from __future__ import annotations

from pathlib import Path

from bench import checks
from bench.bare import Bare, guest_data
from bench.commands import converting, image_tool
from bench.inputs import Workspace, chain
from bench.job import Job, Side
from bench.places import DISK, EXT4_COLD, EXT4_WARM, MEMORY, TMPFS
from bench.ratio import Target

_DEPTHS = ("few", "shallow", "deep")


def _flatten(which: str, target: Target, places: tuple[str, ...], targets: dict[str, Target]) -> Job:
    def depth(space: Workspace) -> int:
        return space.scale.depths[_DEPTHS.index(which)]

    def top(space: Workspace) -> Path:
        return space.own / f"layer-{depth(space) - 1:03}.qcow2"

    def setup(space: Workspace) -> None:
        chain(space.own, space.qcow2(space.scale.image), "qcow2", space.scale.image, depth(space))

    def words(side: Side) -> tuple[str, ...]:
        return "-f", "qcow2", "-O", "qcow2", str(top(side.space)), str(side.out / "flat.qcow2")

    def bare(space: Workspace) -> Bare:
        layers = [space.own / f"layer-{level:03}.qcow2" for level in range(depth(space))]
        moved = guest_data(top(space), "qcow2")
        return Bare((*layers, space.qcow2(space.scale.image)), moved, moved)

    return Job(
        name=f"flatten-{which}",
        writes_much=True,
        title=f"flatten a chain of depth {{{which}}}, {{image}}",
        peer="qemu-img convert",
        target=target,
        targets=targets,
        bare=bare,
        setup=setup,
        theirs=lambda side: converting(side.space.place, words(side)[-2], words(side)[-1], *words(side)[:-2]),
        ours=lambda side: image_tool("convert", *words(side)),
        differs=checks.same_image("flat.qcow2"),
        places=places,
    )


_ON_DISK = {EXT4_COLD: Target(0.85, limit=1.1, ends=1.2), EXT4_WARM: Target()}

JOBS = (
    _flatten("few", Target(), DISK, _ON_DISK),
    _flatten("shallow", Target(0.5), (*MEMORY, *DISK), {TMPFS: Target(0.55, limit=1.2), **_ON_DISK}),
    _flatten("deep", Target(0.1), MEMORY, {}),
)
