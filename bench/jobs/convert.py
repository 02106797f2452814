"""Copies of whole disks: raw and qcow2, with and without reflink, compressed and not."""

from __future__ import annotations

from pathlib import Path

from bench import checks
from bench.bare import Bare, file_data, guest_data
from bench.commands import converting, copying, image_tool, qemu
from bench.inputs import Workspace, tool
from bench.job import Job, Side
from bench.measure import Command
from bench.places import DISK, EXT4_COLD, EXT4_WARM, MEMORY, TMPFS, XFS
from bench.ratio import Target

_COLD = Target(0.85, limit=1.1, ends=1.2)
_IN_MEMORY = Target(0.85, limit=1.2)


def _copy(name: str, title: str, target: Target, *, to_qcow2: bool, warm: Target | None = None) -> Job:
    """A row on tmpfs and on a disk, with another target each, or, without a target for a `warm` disk, one on reflink alone."""
    reflink = warm is None
    source_format, target_format = ("raw", "qcow2") if to_qcow2 else ("qcow2", "raw")
    copy = f"copy.{target_format}"

    def source(space: Workspace) -> Path:
        return space.raw(space.scale.image) if to_qcow2 else space.qcow2(space.scale.image)

    def theirs(side: Side) -> tuple[Command, ...]:
        formats = ("-f", source_format, "-O", target_format)
        return converting(side.space.place, source(side.space), side.out / copy, *formats, offload=reflink)

    def bare(space: Workspace) -> Bare:
        moved = guest_data(source(space), source_format)
        return Bare((source(space),), moved, moved)

    return Job(
        name=name,
        writes_much=True,
        title=title,
        peer="qemu-img convert",
        target=target,
        targets={} if warm is None else {EXT4_COLD: _COLD, EXT4_WARM: warm},
        places=(XFS,) if reflink else (TMPFS, *DISK),
        bare=bare,
        setup=lambda space: void(source(space)),
        theirs=theirs,
        ours=lambda side: image_tool("convert", "-f", source_format, "-O", target_format, source(side.space), side.out / copy),
        differs=checks.same_image(copy),
    )


def _write_compressed(kind: str, target: float) -> Job:
    options = ("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", f"compression_type={kind}")

    def words(side: Side) -> tuple[Path, Path]:
        return side.space.raw(side.space.scale.small), side.out / "packed.qcow2"

    return Job(
        name=f"write-{kind}",
        writes_much=True,
        title=f"write {kind}-compressed qcow2, {{small}}",
        peer="qemu-img convert -c -W -m 16",
        target=Target(target),
        setup=lambda space: void(space.raw(space.scale.small)),
        theirs=lambda side: (qemu("-W -m 16", *options, "-W", "-m", "16", *words(side)),),
        ours=lambda side: image_tool(*options, *words(side)),
        differs=checks.same_image("packed.qcow2"),
    )


def _read_compressed(kind: str, target: float, on_disk: float) -> Job:
    def source(space: Workspace) -> Path:
        return space.own / "packed.qcow2"

    def bare(space: Workspace) -> Bare:
        return Bare((source(space),), file_data(source(space)), guest_data(space.raw(space.scale.small), "raw"))

    def setup(space: Workspace) -> None:
        how = ("convert", "-c", "-W", "-m", "16", "-f", "raw", "-O", "qcow2", "-o", f"compression_type={kind}")
        tool("qemu-img", *how, space.raw(space.scale.small), source(space))

    return Job(
        name=f"read-{kind}",
        writes_much=True,
        title=f"read {kind}-compressed qcow2, {{small}}",
        peer="qemu-img convert",
        target=Target(target),
        setup=setup,
        theirs=lambda side: converting(side.space.place, source(side.space), side.out / "copy.raw", "-f", "qcow2", "-O", "raw"),
        ours=lambda side: image_tool("convert", "-f", "qcow2", "-O", "raw", source(side.space), side.out / "copy.raw"),
        differs=checks.same_image("copy.raw"),
        places=(*MEMORY, *DISK),
        targets=dict.fromkeys(DISK, Target(on_disk)),
        bare=bare,
    )


def void(_made: Path) -> None:
    """Takes an input that only had to be made."""


def _raw_data(space: Workspace) -> Bare:
    source = space.raw(space.scale.image)
    moved = guest_data(source, "raw")
    return Bare((source,), moved, moved)


_RAW_TO_RAW = Job(
    name="raw-to-raw",
    writes_much=True,
    title="raw to raw, {image}",
    peer="qemu-img convert, nbdcopy, cp",
    target=Target(),
    targets={EXT4_COLD: _COLD},
    places=(*MEMORY, *DISK),
    setup=lambda space: void(space.raw(space.scale.image)),
    theirs=lambda side: copying(side.space.place, side.space.raw(side.space.scale.image), side.out / "copy.raw"),
    ours=lambda side: image_tool(
        "convert", "-f", "raw", "-O", "raw", side.space.raw(side.space.scale.image), side.out / "copy.raw"
    ),
    differs=checks.same_image("copy.raw"),
    bare=_raw_data,
)


JOBS = (
    _copy("raw-to-qcow2", "raw to qcow2, {image} with 40 % data", _IN_MEMORY, to_qcow2=True, warm=Target(0.5, limit=1.0)),
    _copy("qcow2-to-raw", "qcow2 to raw, {image}", _IN_MEMORY, to_qcow2=False, warm=Target()),
    _RAW_TO_RAW,
    _copy("raw-to-qcow2-reflink", "raw to qcow2 with reflink, {image}", Target(0.05), to_qcow2=True),
    _copy("qcow2-to-raw-reflink", "qcow2 to raw with reflink, {image}", Target(0.05), to_qcow2=False),
    _write_compressed("zlib", 0.2),
    _write_compressed("zstd", 0.5),
    _read_compressed("zlib", 0.5, on_disk=0.5),
    _read_compressed("zstd", 0.8, on_disk=0.75),
)
