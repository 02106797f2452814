"""What a conversion's target can do; only type checkers need it. `sinks` and `rewriting` have the targets.

A sink is given batches in guest order; their ranges begin at multiples of its `alignment`, and end there or at the disk's end.
`prepare` runs on a loading thread and finds out all that needs only the bytes; `put` decides the places and returns the writing
itself as a job for a thread; `finish` completes the target.
"""

from __future__ import annotations

from typing import Protocol

from cowherd.ops.convert.sinks import Prepared
from cowherd.ops.convert.sources import Ranges
from cowherd.ops.flow import WriteJob
from cowherd.storage.copying import FileRanges
from cowherd.storage.hostfile import HostFile


class Sink(Protocol):
    """A conversion's target."""

    alignment: int
    """Ranges begin at multiples of this, and end there or at the disk's end."""

    keeps_zeros: bool
    """Whether `zero` has anything to do; else it need not be called."""

    def prepare(self, data: memoryview) -> Prepared:
        """Looks at a batch's bytes; may run on any thread."""
        ...

    def takes_from(self, file: HostFile) -> bool:
        """Whether the kernel is to copy long runs from that file, see `prepare_ranges`, which need not be read for that."""
        ...

    def prepare_ranges(self, data: FileRanges) -> Prepared:
        """Does what `prepare` does for ranges that are whole units, of files for which `takes_from` is true."""
        ...

    def put(self, ranges: Ranges, batch: Prepared) -> WriteJob | None:
        """Decides where the bytes of `ranges` go, and returns their writing as a job, or None if it is done."""
        ...

    def zero(self, start: int, end: int) -> None:
        """Makes [start, end) read as zeros; called in guest order, too."""
        ...

    def sharing(self) -> HostFile | None:
        """Returns the file whose blocks may be shared with a source's, or None where bytes must be moved."""
        ...

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        ...
