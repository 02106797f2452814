"""The guard's jobs: the lineage of many images, a full verify, the impact of a changed base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cowherd
from bench import checks
from bench.bare import Bare, guest_data
from bench.commands import guard, python, shell
from bench.inputs import CLUSTER, Workspace, copy, overlay
from bench.job import Job, Result, Side
from bench.jobs.changes import change, changed_clusters, run_now
from bench.measure import Command
from bench.places import DISK, EXT4_COLD, EXT4_WARM, MEMORY
from bench.ratio import Target
from cowherd.extents import DATA

_CHANGED = 0.001
_INFOS = 'for image in "$1"/*.qcow2; do qemu-img info --output=json "$image"; done'

# Asked of each overlay: what it holds itself (map), and whether it reads otherwise than it did on the old base (compare).
_IMPACT = """
for overlay in "$1"/overlay-*.qcow2; do
    qemu-img map --output=json "$overlay" > /dev/null
    before='json:{"driver": "qcow2", "file": {"driver": "file", "filename": "'"$overlay"'"},
        "backing": {"driver": "raw", "file": {"driver": "file", "filename": "'"$2"'"}}}'
    if qemu-img compare -q "$overlay" "$before"; then echo "$overlay same"; else echo "$overlay differs"; fi
done
"""


def _make_herd(space: Workspace) -> None:
    """A tree three layers deep: each image stands on an earlier one."""
    for number in range(space.scale.herd):
        parent = (number - 1) // 10
        cowherd.create(
            space.own / f"image-{number:04}.qcow2",
            1 << 30,
            backing=f"image-{parent:04}.qcow2" if number else None,
            backing_format="qcow2" if number else None,
            unsafe=True,
            break_dependents=True,
        )


def _same_lineage(_space: Workspace, theirs: Result, ours: Result) -> str | None:
    decoder = json.JSONDecoder()
    text, position, their = theirs.run.output.read_text().strip(), 0, {}
    while position < len(text):
        image, position = decoder.raw_decode(text, position)
        position += len(text[position:]) - len(text[position:].lstrip())
        their[Path(image["filename"]).name] = Path(image.get("backing-filename", "")).name
    our = _parents(checks.document(ours))
    return None if their == our else f"{len(their)} and {len(our)} links, {len(their.items() ^ our.items())} of them differ"


def _parents(document: Any) -> dict[str, str]:
    return {Path(image["path"]).name: Path(image["base"] or "").name for image in document["images"]}


def _seal_base(space: Workspace) -> None:
    base = copy(space.raw(space.scale.image), space.own / "base.raw")
    run_now(guard("seal", "--format", "raw", base).words)
    with cowherd.open(base, format="raw") as disk, (space.own / "data.bytes").open("wb") as dense:
        for batch in disk.extents():
            for extent in batch[batch["kind"] == DATA]:
                dense.write(disk.read(int(extent["start"]), int(extent["length"])))


def _digest(side: Side) -> tuple[Command, ...]:
    data = side.space.own / "data.bytes"
    program = python("blake3 package", "hash_blake3.py", data)
    return (Command("b3sum", ("b3sum", str(data))), program) if shutil.which("b3sum") else (program,)


def _verified(_space: Workspace, _theirs: Result, ours: Result) -> str | None:
    statuses = {row["status"] for row in checks.document(ours)["images"]}
    return None if statuses == {"ok"} else f"verify says {statuses}"


def _base_data(space: Workspace) -> Bare:
    base = space.own / "base.raw"
    return Bare((base,), guest_data(base, "raw"))


def _make_impact(space: Workspace) -> None:
    _make_overlays(space, space.scale.overlays)
    copy(space.raw(space.scale.image), space.own / "old.raw")


def _make_overlays(space: Workspace, overlays: int) -> None:
    """Overlays of one base, of which every other is shielded from what changes in it."""
    size = space.scale.image
    base = copy(space.raw(size), space.own / "base.raw")
    for number in range(overlays):
        path = space.own / f"overlay-{number:03}.qcow2"
        overlay(path, Path("base.raw"), "raw", size, seed=number, runs=size // CLUSTER // 400, clusters=1)
        if number % 2:
            _shield(path, size)
    run_now(guard("seal", base).words)
    change(base, _CHANGED)


def _shield(path: Path, size: int) -> None:
    """Gives an overlay copies of its own of all that is going to change: it will read as before."""
    with cowherd.open(path, format="qcow2", writable=True) as disk:
        for cluster in changed_clusters(size, _CHANGED):
            disk.write(cluster * CLUSTER, disk.read(cluster * CLUSTER, CLUSTER))
        disk.flush()


def _same_impact(_space: Workspace, theirs: Result, ours: Result) -> str | None:
    lines = dict(line.rsplit(" ", 1) for line in theirs.run.output.read_text().splitlines())
    their = {Path(path).name for path, answer in lines.items() if answer == "differs"}
    our = {Path(row["path"]).name for row in checks.document(ours)["overlays"] if row["exposed"]}
    return None if their == our else f"overlays that read otherwise: {len(their)} and {len(our)}"


def _dd(side: Side) -> tuple[Command, ...]:
    return (Command("dd", ("dd", f"if={side.space.own / 'base.raw'}", "of=/dev/null", "bs=8M", "status=none")),)


def _half_exposed(space: Workspace, _theirs: Result, ours: Result) -> str | None:
    rows = checks.document(ours)["overlays"]
    exposed = sum(bool(row["exposed"]) for row in rows)
    few = space.scale.few_overlays
    return None if (len(rows), exposed) == (few, few // 2) else f"{exposed} of {len(rows)} overlays read otherwise"


JOBS = (
    Job(
        name="lineage",
        title="the lineage of {herd} images",
        peer="{herd} x qemu-img info",
        target=Target(0.05),
        setup=_make_herd,
        theirs=lambda side: (shell("a loop in sh", _INFOS, side.space.own),),
        ours=lambda side: guard("tree", "--json", side.space.own),
        differs=_same_lineage,
    ),
    Job(
        name="verify-full",
        title="full verify of a sealed base, {image}",
        peer="b3sum of as many bytes of data",
        target=Target(1.1),
        setup=_seal_base,
        theirs=_digest,
        ours=lambda side: guard("verify", "--full", "--json", side.space.own / "base.raw"),
        differs=_verified,
        places=(*MEMORY, *DISK),
        targets={EXT4_COLD: Target(limit=1.1), EXT4_WARM: Target(1.3)},
        bare=_base_data,
    ),
    Job(
        name="impact",
        title="impact of a changed {image} base with {overlays} overlays",
        peer="qemu-img map and compare, in a loop in sh",
        target=Target(0.02),
        setup=_make_impact,
        theirs=lambda side: (shell("a loop in sh", _IMPACT, side.space.own, side.space.own / "old.raw"),),
        ours=lambda side: guard("impact", "--json", side.space.own / "base.raw", codes=(0, 4)),
        differs=_same_impact,
    ),
    Job(
        name="impact-few",
        title="impact of a changed {image} base with {few_overlays} overlays",
        peer="dd of the base",
        target=Target(),
        setup=lambda space: _make_overlays(space, space.scale.few_overlays),
        theirs=_dd,
        ours=lambda side: guard("impact", "--json", side.space.own / "base.raw", codes=(0, 4)),
        differs=_half_exposed,
        places=DISK,
        bare=_base_data,
    ),
)
