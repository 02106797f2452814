"""Jobs that change images in place: commit and rebase. Each run gets fresh copies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench import checks, content
from bench.bare import Bare, guest_data
from bench.commands import changing, guard, image_tool
from bench.inputs import CLUSTER, Workspace, copy, overlay
from bench.job import Job, Side
from bench.measure import BenchmarkFailed, Command
from bench.places import DISK, EXT4_COLD, EXT4_WARM, MEMORY, TMPFS, XFS
from bench.ratio import Target

_LUMP = 16  # clusters that lie together in an overlay
_CHANGED = 0.05
_COMMIT_ON_DISK = {EXT4_COLD: Target(1.0), EXT4_WARM: Target(0.7, limit=1.0)}
_REBASE_ON_DISK = {EXT4_COLD: Target(0.6, limit=1.5), EXT4_WARM: Target()}


def _commit(name: str, title: str, target: Target, places: tuple[str, ...], targets: Mapping[str, Target]) -> Job:
    def setup(space: Workspace) -> None:
        size = 2 * space.scale.overlay
        copy(space.qcow2(size), space.own / "base.qcow2")
        lumps = space.scale.overlay // CLUSTER // _LUMP
        overlay(space.own / "overlay.qcow2", Path("base.qcow2"), "qcow2", size, seed=1, runs=lumps, clusters=_LUMP)

    def prepare(side: Side) -> None:
        for image in ("base.qcow2", "overlay.qcow2"):
            copy(side.space.own / image, side.out / image)

    def theirs(side: Side) -> tuple[Command, ...]:
        words = "commit", "-q", side.out / "overlay.qcow2"
        kept = changing(side.space.place, ("-t", "none"), *words)
        return (*kept, *changing(side.space.place, ("-t", "none"), *words, options=("-d",)))

    def bare(space: Workspace) -> Bare:
        return Bare((space.own / "overlay.qcow2",), space.scale.overlay, space.scale.overlay)

    return Job(
        name=name,
        writes_much=True,
        title=title,
        peer="qemu-img commit",
        target=target,
        targets=targets,
        setup=setup,
        prepare=prepare,
        theirs=theirs,
        ours=lambda side: image_tool("commit", "-q", "-d", side.out / "overlay.qcow2"),
        differs=checks.same_image("base.qcow2"),
        places=places,
        bare=bare,
    )


def _rebase(name: str, title: str, target: float, changed: float, targets: Mapping[str, Target]) -> Job:
    def setup(space: Workspace) -> None:
        size = space.scale.image
        copy(space.raw(size), space.own / "old.raw")
        copy(space.raw(size), space.own / "new.raw")
        if changed:
            change(space.own / "new.raw", changed)
        overlay(space.own / "overlay.qcow2", space.own / "old.raw", "raw", size, seed=1, runs=size // CLUSTER // 100, clusters=1)
        if not changed:
            for base in ("old.raw", "new.raw"):
                run_now(guard("seal", "--format", "raw", space.own / base).words)

    def words(side: Side) -> tuple[str, ...]:
        return "rebase", "-q", "-f", "qcow2", "-b", str(side.space.own / "new.raw"), "-F", "raw", str(side.out / "overlay.qcow2")

    def bare(space: Workspace) -> Bare:
        bases = space.own / "old.raw", space.own / "new.raw"
        return Bare(bases, sum(guest_data(base, "raw") for base in bases), int(space.scale.image * changed) // CLUSTER * CLUSTER)

    return Job(
        name=name,
        writes_much=True,
        title=title,
        peer="qemu-img rebase",
        target=Target(target),
        targets=targets,
        setup=setup,
        prepare=_fresh,
        theirs=lambda side: changing(side.space.place, ("-T", "none", "-t", "none"), *words(side)),
        ours=lambda side: image_tool(*words(side)),
        differs=checks.same_overlay("overlay.qcow2"),
        places=(*MEMORY, *targets),
        bare=bare if changed else None,
    )


def _fresh(side: Side) -> None:
    copy(side.space.own / "overlay.qcow2", side.out / "overlay.qcow2")


def change(disk: Path, share: float) -> None:
    """Writes other content over a share of a raw disk, in lumps of a cluster that spread evenly."""
    random = np.random.default_rng(5)
    with disk.open("r+b") as file:
        for cluster in changed_clusters(disk.stat().st_size, share):
            file.seek(cluster * CLUSTER)
            file.write(content.piece(random, CLUSTER))


def changed_clusters(size: int, share: float) -> list[int]:
    """Which clusters of a disk of `size` bytes `change` writes to: always the same ones."""
    clusters = size // CLUSTER
    chosen: list[int] = np.random.default_rng(6).choice(clusters, max(1, int(clusters * share)), replace=False).tolist()
    return chosen


def run_now(words: tuple[str, ...]) -> None:
    """Runs a command of a job's set-up. Raises `BenchmarkFailed` if it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        raise BenchmarkFailed(f"{' '.join(words)}: exit code {done.returncode}")


JOBS = (
    _commit("commit", "commit a {overlay} overlay", Target(0.9, limit=1.2), (TMPFS, *DISK), _COMMIT_ON_DISK),
    _commit("commit-reflink", "commit a {overlay} overlay with reflink", Target(0.05), (XFS,), {}),
    _rebase("rebase-equal", "rebase onto a base of equal content, sealed, {image}", 0.02, 0, {}),
    _rebase("rebase-changed", "rebase onto a base that differs in 5 %, {image}", 0.5, _CHANGED, _REBASE_ON_DISK),
)
