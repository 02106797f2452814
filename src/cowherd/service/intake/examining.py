"""Hashes and inspects the bytes of one image, wherever they come from and go to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.formats import registry
from cowherd.service.intake.adoption import Arrived
from cowherd.service.intake.content import FlatContent
from cowherd.service.intake.hashing import Hasher
from cowherd.service.intake.inspection import InFlight, Rules
from cowherd.service.intake.stored import inspect_stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from cowherd.service.intake.hashing import Digests, Take
    from cowherd.service.intake.lineage import Bases
    from cowherd.service.records.image import Image
    from cowherd.storage.hostfile import Buffer

BARE = "bare"
"""The container format of images whose bytes are those of the disk; the bytes of others are not looked at."""


class Examination:
    """Bytes that are those of `image`, fed in order, until `finish` or `abandon`; its threads run until then."""

    def __init__(
        self,
        image: Image,
        hashes: Iterable[str],
        rules: Rules,
        length: int | None = None,
        bases: Bases | None = None,
        takers: Sequence[Take] = (),
    ):
        """`hashes` are by hashlib's names; `takers` get each block in a thread. `length` is how many bytes will come."""
        is_disk = image.container_format == BARE
        self._format, self._rules = image.disk_format or "", rules
        self._flight = InFlight(self._format, rules, length, bases) if is_disk else None
        self._flat = FlatContent() if is_disk and registry.named(self._format).verbatim else None
        self._takers = [*takers, self._flat.take] if self._flat else [*takers]
        self._hasher = Hasher(hashes, self._take_in_turn)

    def feed(self, block: Buffer) -> None:
        """Takes the next bytes, which nobody may change any more. Raises `Refused`, and what the takers raise."""
        if self._flight:
            self._flight.feed(block)
        self._hasher.feed(block)

    def abandon(self) -> None:
        """Ends it without a finding. Abandoning twice is fine."""
        self._hasher.abandon()

    def finish(self, path: Path, settle: Callable[[Digests], Digests] | None = None) -> Arrived:
        """Called after the last byte: has `settle` make them durable in the file at `path`, and inspects that as a whole.

        `settle` gets the digests, and returns those that count. Raises `Refused`, `HostFileError`, and what it and takers raise.
        """
        virtual_size = self._flight.finish() if self._flight else None
        digests = self._hasher.finish()
        if settle is not None:
            digests = settle(digests)
        if self._flight is None:
            return Arrived(digests, self._format, None, None)
        found = inspect_stored(path, self._flight.format or "", self._rules.max_virtual_size, below=self._flight.below)
        if self._flat:
            return Arrived(digests, self._format, virtual_size or None, self._flat.finish())
        if self._flight.format != self._format:
            return Arrived(digests, self._format, None, None)
        bound_to = self._flight.content_below
        return Arrived(digests, self._format, virtual_size or found.virtual_size, found.content, bound_to)

    def _take_in_turn(self, block: Buffer) -> None:
        """Called with each block in a thread beside those that hash: together this takes less time than the slowest digest."""
        for take in self._takers:
            take(block)
