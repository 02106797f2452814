"""Images made by QEMU's tools for comparing what qemu-img and cowherd-img say about them."""

from __future__ import annotations

import os
from pathlib import Path

from tests.qemu import Tool

QCOW2 = (
    "plain.qcow2",
    "version2.qcow2",
    "small.qcow2",
    "large.qcow2",
    "subclusters.qcow2",
    "narrow.qcow2",
    "wide.qcow2",
    "lazy.qcow2",
    "compressed.qcow2",
    "zstd.qcow2",
    "snapshots.qcow2",
    "bitmaps.qcow2",
    "metadata.qcow2",
    "reserved.qcow2",
    "empty.qcow2",
    "data-file.qcow2",
)
OVERLAYS = (
    "overlay.qcow2",
    "top.qcow2",
    "larger.qcow2",
    "smaller.qcow2",
    "on-raw.qcow2",
    "in/overlay.qcow2",
    "json.qcow2",
    "file.qcow2",
)
RAW = ("plain.raw", "odd.raw", "holes.raw", "nothing.raw")
READABLE = tuple(name for name in QCOW2 if name != "data-file.qcow2") + OVERLAYS + RAW

_CREATED_WITH = {
    "plain.qcow2": "",
    "version2.qcow2": "compat=0.10",
    "small.qcow2": "cluster_size=512",
    "large.qcow2": "cluster_size=2M",
    "subclusters.qcow2": "extended_l2=on",
    "narrow.qcow2": "refcount_bits=1",
    "wide.qcow2": "refcount_bits=64,cluster_size=4k",
    "lazy.qcow2": "lazy_refcounts=on",
    "snapshots.qcow2": "",
    "bitmaps.qcow2": "",
    "metadata.qcow2": "preallocation=metadata",
    "reserved.qcow2": "preallocation=falloc",
}
_WRITES = (
    "write -P 1 0 5k",
    "write -P 2 1M 300k",
    "write -z 2M 200k",
    "write -z -u 1100k 64k",
    "write -P 3 3M 1k",
    "discard 1200k 64k",
)


def build(folder: Path, qemu_img: Tool, qemu_io: Tool) -> None:
    """Makes the gallery in `folder`."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        _build_qcow2(qemu_img, qemu_io)
        _build_raw()
        _build_overlays(qemu_img, qemu_io)
    finally:
        os.chdir(before)


def _build_qcow2(qemu_img: Tool, qemu_io: Tool) -> None:
    for name, options in _CREATED_WITH.items():
        qemu_img("create", "-q", "-f", "qcow2", *(["-o", options] if options else []), name, "5M")
        if name != "snapshots.qcow2":
            _write(qemu_io, name)
    qemu_img("snapshot", "-c", "first", "snapshots.qcow2")
    _write(qemu_io, "snapshots.qcow2")
    qemu_img("snapshot", "-c", "a näme, and spaces", "snapshots.qcow2")
    qemu_img("bitmap", "--add", "bitmaps.qcow2", "auto")
    qemu_img("bitmap", "--add", "--disable", "-g", "4k", "bitmaps.qcow2", "with spaces")
    qemu_img("convert", "-c", "-O", "qcow2", "plain.qcow2", "compressed.qcow2")
    qemu_io("-c", "write -P 4 4M 1k", "compressed.qcow2")
    qemu_img("convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", "plain.qcow2", "zstd.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", "empty.qcow2", "0")
    qemu_img("create", "-q", "-f", "qcow2", "-o", "data_file=data-file.raw", "data-file.qcow2", "1M")


def _build_raw() -> None:
    Path("plain.raw").write_bytes(bytes(range(256)) * 4096)
    Path("odd.raw").write_bytes(b"odd")
    Path("nothing.raw").touch()
    with Path("holes.raw").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x" * 70000)
        file.truncate(5 << 20)


def _build_overlays(qemu_img: Tool, qemu_io: Tool) -> None:
    def overlay(name: str, base: str, *more: str, format: str = "qcow2") -> None:
        qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", format, *more)
        qemu_io("-c", "write -P 9 1030k 70k", "-c", "write -z 500k 64k", name)

    Path("in").mkdir()
    overlay("overlay.qcow2", "plain.qcow2", "overlay.qcow2")
    overlay("top.qcow2", "overlay.qcow2", "-o", "extended_l2=on", "top.qcow2")
    overlay("larger.qcow2", "top.qcow2", "-o", "extended_l2=on", "larger.qcow2", "9M")
    overlay("smaller.qcow2", "larger.qcow2", "-o", "cluster_size=512", "smaller.qcow2", "4M")
    overlay("on-raw.qcow2", "holes.raw", "on-raw.qcow2", format="raw")
    overlay("in/overlay.qcow2", "../plain.qcow2", "in/overlay.qcow2")
    overlay("json.qcow2", 'json:{"driver":"qcow2","file":{"driver":"file","filename":"plain.qcow2"}}', "json.qcow2")
    overlay("file.qcow2", "file:plain.qcow2", "file.qcow2")


def _write(qemu_io: Tool, name: str) -> None:
    for write in _WRITES:
        if not (name == "version2.qcow2" and "-u" in write):
            qemu_io("-c", write, name)
