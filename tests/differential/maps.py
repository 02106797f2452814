"""What `qemu-img map` and cowherd say about the same image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cowherd.image.disk import Disk
from cowherd.image.reading import Reading
from cowherd.ops.map import entries
from tests.qemu import Tool


def map_by_qemu(path: Path) -> list[dict[str, Any]]:
    """The entries of `qemu-img map --output=json`."""
    answer: list[dict[str, Any]] = json.loads(Tool("qemu-img")("map", "--output=json", "-f", "qcow2", path))
    return answer


def map_by_cowherd(disk: Disk) -> list[dict[str, Any]]:
    """The same facts, found by cowherd, in the same form."""
    found = []
    for entry in entries(Reading.of(disk)):
        fields = entry._asdict()
        if fields["offset"] is None:
            del fields["offset"]
        found.append(fields)
    return found
