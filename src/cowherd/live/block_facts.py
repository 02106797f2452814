"""Reads what a machine answers about its disks: block nodes, devices, exports and jobs.

Whoever answers is a stranger: anybody can listen at a socket and send anything. So every field is checked before it is used.

Source: QEMU's qapi/block-core.json (BlockDeviceInfo, BlockInfo), block-export.json (BlockExportInfo) and job.json (JobInfo).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cowherd.text import has_surrogates

NODES, DEVICES, EXPORTS, JOBS = "query-named-block-nodes", "query-block", "query-block-exports", "query-jobs"
COMMANDS = (NODES, DEVICES, EXPORTS, JOBS)
"""The queries whose answers are read here."""

_MOST = 1 << 63
_FINE = ("", "ok")


class Malformed(ValueError):
    """An answer does not have the form that QMP gives it."""


@dataclass(frozen=True)
class Node:
    """A block node: its name, its driver, QEMU's name of its file ("" for none), and the names of the images of its chain.

    The first image is its own. `inconsistent` are its dirty bitmaps that QEMU calls so.
    """

    name: str
    driver: str
    file: str
    images: tuple[str, ...]
    inconsistent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Device:
    """A guest's drive: its name (that of the drive, or of the device), and QEMU's name of the image that is in it.

    `problem` is QEMU's word for a drive on which a request failed ("failed", "nospace"), "" for none.
    """

    name: str
    image: str
    problem: str = ""


@dataclass(frozen=True)
class Export:
    """A node that is given to others: `type` is how ("nbd", "fuse", "vhost-user-blk")."""

    id: str
    type: str
    node: str
    ending: bool = False


@dataclass(frozen=True)
class Job:
    """A block job: `status` and `error` in QEMU's words; `done` of `total` in the job's own measure, mostly bytes."""

    id: str
    type: str
    status: str
    done: int
    total: int
    error: str = ""

    @property
    def waits(self) -> bool:
        """Whether it needs a command to go on, or has failed and nobody has read its error."""
        return self.status in ("ready", "pending") or (self.status == "concluded" and bool(self.error))


@dataclass(frozen=True)
class Facts:
    """What a machine says of its disks."""

    nodes: tuple[Node, ...] = ()
    devices: tuple[Device, ...] = ()
    exports: tuple[Export, ...] = ()
    jobs: tuple[Job, ...] = ()


def read_facts(answers: Mapping[str, Any]) -> Facts:
    """Returns the facts in the answers to `COMMANDS`; one that the machine does not know has none. Raises `Malformed`."""
    return Facts(
        tuple(map(_node, _objects(answers, NODES))),
        tuple(device for told in _objects(answers, DEVICES) for device in _device(told)),
        tuple(map(_export, _objects(answers, EXPORTS))),
        tuple(map(_job, _objects(answers, JOBS))),
    )


def _node(told: dict[str, Any]) -> Node:
    bitmaps = _objects(told, "dirty-bitmaps")
    return Node(
        _text(told, "node-name"),
        _text(told, "drv"),
        _text(told, "file"),
        tuple(_text(image, "filename") for image in _chain(told)),
        tuple(_text(bitmap, "name") for bitmap in bitmaps if _switch(bitmap, "inconsistent")),
    )


def _chain(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    image = _object(node, "image")
    while image is not None:
        yield image
        image = _object(image, "backing-image")


def _device(told: dict[str, Any]) -> Iterator[Device]:
    """Yields a drive with a disk, nothing for one without."""
    inserted = _object(told, "inserted")
    if inserted is not None:
        status = _text(told, "io-status")
        yield Device(
            _text(told, "device") or _text(told, "qdev"),
            next((_text(image, "filename") for image in _chain(inserted)), ""),
            "" if status in _FINE else status,
        )


def _export(told: dict[str, Any]) -> Export:
    return Export(_text(told, "id"), _text(told, "type"), _text(told, "node-name"), _switch(told, "shutting-down"))


def _job(told: dict[str, Any]) -> Job:
    return Job(
        _text(told, "id"),
        _text(told, "type"),
        _text(told, "status"),
        _whole(told, "current-progress"),
        _whole(told, "total-progress"),
        _text(told, "error"),
    )


def _objects(told: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = told.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Malformed(f"{name} is no list of objects")
    return found


def _object(told: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    found = told.get(name)
    if not isinstance(found, dict | None):
        raise Malformed(f"{name} is no object")
    return found


def _text(told: Mapping[str, Any], name: str) -> str:
    """Returns a text that can be a name, "" for none: no file name holds a zero byte or halves of characters."""
    found = told.get(name, "")
    if not isinstance(found, str) or "\0" in found or has_surrogates(found):
        raise Malformed(f"{name} is no text")
    return found


def _switch(told: Mapping[str, Any], name: str) -> bool:
    found = told.get(name, False)
    if not isinstance(found, bool):
        raise Malformed(f"{name} is neither true nor false")
    return found


def _whole(told: Mapping[str, Any], name: str) -> int:
    found = told.get(name, 0)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < _MOST:
        raise Malformed(f"{name} is no number of bytes")
    return found
