"""What the clients upload: a few contents that all of them share, so that they meet in the store, and some that are refused."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from tests.hostile.corpus import corpus, seed

_SIZES = (1, 4096, 70_000, 1 << 20, 3_000_000)
_OF_EACH = 3


@dataclass(frozen=True)
class Content:
    """Bytes, the format that an image with them states, and their name in a store."""

    data: bytes = field(repr=False)
    disk_format: str
    digest: str


def _content(data: bytes, disk_format: str) -> Content:
    return Content(data, disk_format, blake3(data).hexdigest())


def sound_contents(lot: random.Random) -> list[Content]:
    """Returns contents that are accepted; one of them is a qcow2 image, which a process of its own inspects."""
    raw = [_content(lot.randbytes(size), "raw") for size in _SIZES for _ in range(_OF_EACH)]
    with tempfile.TemporaryDirectory() as folder:
        qcow2 = seed().write(Path(folder) / "sound").read_bytes()
    return [*raw, _content(qcow2, "qcow2")]


def refused_contents(lot: random.Random) -> list[Content]:
    """Returns contents that are refused: one at its first bytes, and one that is wrong at its end only."""
    case = next(one for one in corpus() if one.category == "backing files")
    with tempfile.TemporaryDirectory() as folder:
        overlay = case.write(Path(folder) / "overlay").read_bytes()
        cut = seed().write(Path(folder) / "sound").read_bytes()[:-70_000]
    return [_content(overlay, "qcow2"), _content(cut, "qcow2"), _content(lot.randbytes(300_000), "qcow2")]
