"""How the cost of each job grows: with the virtual size, with the depth of the chain, and with the data that it holds.

The same data lies in every image: further apart on a larger disk, and shared out among the layers of a deeper chain, each of
which has a few L2 tables. So a job that costs more on a larger disk does work that nobody asked for, and so does one that costs
more on a deeper chain than to look at those tables. The last image has four times the data, for comparison.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import cowherd
from bench import content
from bench.commands import guard, image_tool, qemu
from bench.inputs import CLUSTER, clear
from bench.measure import Command, Run, measure
from bench.row import Cost

SIZES = (16 << 30, 128 << 30, 1 << 40)
DEPTHS = (1, 8, 64)
MORE_DATA = 4
_DATA = 256 << 20
_REGION = 512 << 20
_REGIONS = 4


@dataclass(frozen=True)
class Shape:
    """What an image of the series is: bytes of its disk, layers of its chain, bytes of data in all of them."""

    size: int
    depth: int
    data: int


@dataclass(frozen=True)
class Chain:
    """The images of one shape: `layers` from the base up, and `flat`, one image with the same content. `out` is for results."""

    shape: Shape
    layers: tuple[Path, ...]
    flat: Path
    out: Path

    @property
    def top(self) -> Path:
        """The image that jobs are about."""
        return self.layers[-1]


@dataclass(frozen=True)
class GrowthJob:
    """A job of the series. `theirs` is None where QEMU has no such job; where `changes`, each run gets a copy of the chain."""

    name: str
    ours: Callable[[Chain], Command]
    theirs: Callable[[Chain], Command] | None
    changes: bool = False
    least_depth: int = 1


@dataclass(frozen=True)
class Cell:
    """What a job cost on one shape: `theirs` is None where there is no peer."""

    job: str
    shape: Shape
    ours: Cost
    theirs: Cost | None


def _both(name: str, words: Callable[[Chain], Sequence[str | Path]], *, changes: bool = False, least_depth: int = 1) -> GrowthJob:
    return GrowthJob(
        name, lambda chain: image_tool(*words(chain)), lambda chain: qemu("plain", *words(chain)), changes, least_depth
    )


GROWTH_JOBS = (
    _both("info", lambda chain: ("info", "--output=json", chain.top)),
    _both("check", lambda chain: ("check", "-q", "-f", "qcow2", chain.top)),
    _both("map", lambda chain: ("map", "--output=json", "-f", "qcow2", chain.top)),
    _both("measure", lambda chain: ("measure", "-f", "qcow2", "-O", "qcow2", chain.top)),
    _both("convert", lambda chain: ("convert", "-f", "qcow2", "-O", "qcow2", chain.top, chain.out / "copy.qcow2")),
    _both("compare", lambda chain: ("compare", "-f", "qcow2", "-F", "qcow2", chain.top, chain.flat)),
    _both("commit", lambda chain: ("commit", "-q", "-f", "qcow2", chain.top), changes=True, least_depth=2),
    _both("flatten", lambda chain: ("rebase", "-f", "qcow2", "-b", "", chain.top), changes=True, least_depth=2),
    GrowthJob("verify-full", lambda chain: guard("verify", "--full", chain.flat), None),
    GrowthJob("impact", lambda chain: guard("impact", chain.layers[0], "--against", chain.flat, codes=(0, 4)), None),
)


def shapes(scale: float) -> list[Shape]:
    """Three sizes at three depths with the same data, and the smallest one with more; `scale` applies to the data."""
    data = max(1 << 20, int(_DATA * scale))
    grid = [Shape(size, depth, data) for size in SIZES for depth in DEPTHS]
    return [*grid, Shape(SIZES[0], DEPTHS[0], MORE_DATA * data)]


def run_growth(jobs: Sequence[GrowthJob], folder: Path, scale: float, runs: int, say: Callable[[str], None]) -> Iterator[Cell]:
    """Runs each job on each shape, cowherd and its peer in turn. Raises `BenchmarkFailed` if a command fails."""
    for shape in shapes(scale):
        say(f"{shape.size >> 30} GiB, depth {shape.depth}, {shape.data >> 20} MiB of data")
        chain = make_chain(clear(folder / "chain"), folder / "out", shape)
        for job in jobs:
            if shape.depth >= job.least_depth:
                yield _cell(job, chain, folder, runs)
        shutil.rmtree(folder / "chain")


def make_chain(folder: Path, out: Path, shape: Shape) -> Chain:
    """Makes the images of one shape; the flat one is sealed."""
    layers: list[Path] = []
    for level in range(shape.depth):
        layers.append(folder / f"layer-{level:03}.qcow2")
        _make_layer(layers[-1], layers[-2] if level else None, shape, level)
    flat = folder / "flat.qcow2"
    cowherd.convert(layers[-1], flat, source_format="qcow2", target_format="qcow2")
    cowherd.seal(flat)
    return Chain(shape, tuple(layers), flat, out)


def _make_layer(path: Path, below: Path | None, shape: Shape, level: int) -> None:
    """Writes the layer's share of the data to random clusters of a few regions, which are as far apart as the disk allows."""
    backing = {} if below is None else {"backing": below.name, "backing_format": "qcow2", "unsafe": True}
    cowherd.create(path, shape.size, break_dependents=True, **backing)
    random = np.random.default_rng(level)
    clusters = max(_REGIONS, shape.data // CLUSTER // shape.depth)
    step = (shape.size - _REGION) // (_REGIONS - 1)
    with cowherd.open(path, format="qcow2", writable=True, backing=False, break_dependents=True) as disk:
        for region in range(_REGIONS):
            start = region * step // _REGION * _REGION
            for slot in sorted(random.choice(_REGION // CLUSTER, clusters // _REGIONS, replace=False).tolist()):
                disk.write(start + slot * CLUSTER, content.piece(random, CLUSTER))
        disk.flush()


def _cell(job: GrowthJob, chain: Chain, folder: Path, runs: int) -> Cell:
    theirs: list[Run] = []
    ours: list[Run] = []
    for _ in range(runs):
        if job.theirs is not None:
            theirs.append(_run(job, job.theirs, chain, folder))
        ours.append(_run(job, job.ours, chain, folder))
    return Cell(job.name, chain.shape, _least(ours), _least(theirs) if theirs else None)


def _run(job: GrowthJob, command: Callable[[Chain], Command], chain: Chain, folder: Path) -> Run:
    clear(chain.out)
    if job.changes:
        shutil.rmtree(folder / "copy", ignore_errors=True)
        (folder / "copy").mkdir()
        chain = Chain(chain.shape, tuple(_copied(layer, folder / "copy") for layer in chain.layers), chain.flat, chain.out)
    run = measure(command(chain), folder / "stdout")
    shutil.rmtree(chain.out)
    return run


def _copied(layer: Path, folder: Path) -> Path:
    shutil.copyfile(layer, folder / layer.name)
    return folder / layer.name


def _least(runs: Sequence[Run]) -> Cost:
    """What the least disturbed run cost."""
    return Cost(min(run.wall for run in runs), min(run.cpu for run in runs), min(run.peak for run in runs))
