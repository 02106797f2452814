"""One digest that stands for all bytes of an overlay that a change of its base, or a write to it, could alter.

What an overlay shows is what it holds and what it leaves to its base. Where the base is known not to change, comparing what
the overlay holds and what lies in the changed ranges proves that it shows what it did, without reading the base through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from cowherd import extents
from cowherd.herd.records.digest import digests_of, to_blocks

if TYPE_CHECKING:
    from cowherd.extents import Ranges
    from cowherd.image.disk import Disk


def bears_witness(disk: Disk, changed: Ranges, *, whole: bool) -> str:
    """Returns the digest, in hexadecimal digits, of what `disk` shows in `changed`, guest bytes of its base.

    With `whole` everything that its top layer holds counts too. The digest stays the same when units of the disk that touch
    `changed` are filled.
    """
    size = disk.size
    inside = extents.intersect(changed, extents.ranges([(0, size)]))
    parts = [extents.aligned(inside, disk.layers[0].granularity, size)]
    if whole:
        parts += [extents.ranges_of(batch[batch["kind"] != extents.BACKING]) for batch in disk.extents(depth=1)]
    runs = to_blocks(extents.normalised(np.concatenate(parts)))
    found = blake3(size.to_bytes(8, "little")).update(runs.astype("<i8").tobytes())
    return found.update(digests_of(disk, runs).tobytes()).hexdigest()
