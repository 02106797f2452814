"""Copies of whole disks: raw and qcow2, with and without reflink, compressed and not."""

from __future__ import annotations

from pathlib import Path

from bench import checks
from bench.commands import converting, image_tool, qemu
from bench.inputs import Workspace, tool
from bench.job import BOTH, TMPFS, XFS, Job, Side
from bench.measure import Command
from bench.ratio import Target


def _copy(name: str, title: str, target: float, *, to_qcow2: bool, reflink: bool) -> Job:
    source_format, target_format = ("raw", "qcow2") if to_qcow2 else ("qcow2", "raw")
    copy = f"copy.{target_format}"

    def source(space: Workspace) -> Path:
        return space.raw(space.scale.image) if to_qcow2 else space.qcow2(space.scale.image)

    def theirs(side: Side) -> tuple[Command, ...]:
        formats = ("-f", source_format, "-O", target_format)
        return converting(source(side.space), side.out / copy, *formats, offload=reflink)

    return Job(
        name=name,
        writes_much=True,
        title=title,
        peer="qemu-img convert",
        target=Target(target),
        places=(XFS,) if reflink else (TMPFS,),
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


def _read_compressed(kind: str, target: float) -> Job:
    def source(space: Workspace) -> Path:
        return space.own / "packed.qcow2"

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
        theirs=lambda side: converting(source(side.space), side.out / "copy.raw", "-f", "qcow2", "-O", "raw"),
        ours=lambda side: image_tool("convert", "-f", "qcow2", "-O", "raw", source(side.space), side.out / "copy.raw"),
        differs=checks.same_image("copy.raw"),
        places=BOTH,
    )


def void(_made: Path) -> None:
    """Takes an input that only had to be made."""


JOBS = (
    _copy("raw-to-qcow2", "raw to qcow2, {image} with 40 % data", 0.7, to_qcow2=True, reflink=False),
    _copy("qcow2-to-raw", "qcow2 to raw, {image}", 0.6, to_qcow2=False, reflink=False),
    _copy("raw-to-qcow2-reflink", "raw to qcow2 with reflink, {image}", 0.05, to_qcow2=True, reflink=True),
    _copy("qcow2-to-raw-reflink", "qcow2 to raw with reflink, {image}", 0.05, to_qcow2=False, reflink=True),
    _write_compressed("zlib", 0.2),
    _write_compressed("zstd", 0.5),
    _read_compressed("zlib", 0.5),
    _read_compressed("zstd", 0.8),
)
