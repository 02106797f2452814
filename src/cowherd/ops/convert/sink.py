"""The interface of a conversion's target; only type checkers need it. `sinks` and `rewriting` have the targets.

A sink gets batches in guest order; their ranges begin at multiples of its `alignment`, and end there or at the disk's end.
`prepare` runs on a loading thread and does everything that needs only the bytes; `put` decides the places and returns the writing
as a job for a thread; `finish` completes the target.
"""

from __future__ import annotations

from typing import Protocol

from cowherd.image.rows import Ranges
from cowherd.ops.convert.sinks import Prepared
from cowherd.ops.flow import WriteJob
from cowherd.storage.copying import FileRanges
from cowherd.storage.hostfile import HostFile


class Sink(Protocol):
    """A conversion's target."""

    alignment: int
    """Ranges begin at multiples of this, and end there or at the disk's end."""

    keeps_zeros: bool
    """Whether `zero` has anything to do; if not, callers need not call it."""

    def prepare(self, data: memoryview) -> Prepared:
        """Finds what is known from a batch's bytes alone; may run on any thread."""
        ...

    def takes_from(self, file: HostFile) -> bool:
        """Returns whether the kernel copies long runs from that file, so that nobody reads them; see `prepare_ranges`."""
        ...

    def prepare_ranges(self, data: FileRanges) -> Prepared:
        """Does what `prepare` does, for ranges of whole units in files for which `takes_from` is true."""
        ...

    def put(self, ranges: Ranges, batch: Prepared) -> WriteJob | None:
        """Decides where the bytes of `ranges` go. Returns a job that writes them, or None if that is done."""
        ...

    def zero(self, start: int, end: int) -> None:
        """Makes [start, end) read as zeros; called in guest order with `put`."""
        ...

    def sharing(self) -> HostFile | None:
        """Returns the file that can share blocks with a source's file, or None if bytes must be moved."""
        ...

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        ...
