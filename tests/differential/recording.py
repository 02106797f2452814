"""What a session writes to a file, step by step, and the files that a crash at any moment could leave.

A host keeps what was written before the last flush; of what came after, any part may be there, down to single sectors.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cowherd.storage.hostfile import HostFile

SECTOR = 512


@dataclass(frozen=True)
class Change:
    """One change of a file's bytes; `length` of None cuts the file at `offset`, or lengthens it to there."""

    offset: int
    data: bytes | None = None
    length: int | None = None

    def apply(self, content: bytearray) -> None:
        if self.data is not None:
            _lengthen(content, self.offset + len(self.data))
            content[self.offset : self.offset + len(self.data)] = self.data
        elif self.length is None:
            del content[self.offset :]
            _lengthen(content, self.offset)
        else:
            end = min(len(content), self.offset + self.length)
            content[self.offset : end] = bytes(max(0, end - self.offset))

    def torn(self, generator: random.Random) -> Change:
        """Returns this change cut short at a sector's border, as when the power fails in the middle."""
        if self.data is None:
            return self
        borders = range(-self.offset % SECTOR or SECTOR, len(self.data), SECTOR)
        return Change(self.offset, self.data[: generator.choice(borders)]) if borders else self


def _lengthen(content: bytearray, size: int) -> None:
    content.extend(bytes(max(0, size - len(content))))


@dataclass
class Epoch:
    """What happened between two flushes: the changes, and the number of requests that had begun and that were durable by then."""

    begun: int
    durable: int
    changes: list[Change] = field(default_factory=list)


class Recording:
    """Records every change and flush of the file at `path` while `monkeypatch` lasts."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch):
        self.path, self.before = path, path.read_bytes()
        self.begun = self.durable = 0
        self.epochs = [Epoch(0, 0)]
        self._watch(monkeypatch, "pwritev", lambda offset, buffers: Change(offset, b"".join(bytes(part) for part in buffers)))
        self._watch(monkeypatch, "truncate", Change)
        self._watch(monkeypatch, "punch_hole", lambda offset, length: Change(offset, length=length))
        self._watch(monkeypatch, "zero_range", lambda offset, length, *, unmap: Change(offset, length=length))
        self._watch(monkeypatch, "flush", lambda: None)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, name: str, change_of: Any) -> None:
        original = getattr(HostFile, name)

        def watched(file: HostFile, *arguments: Any, **options: Any) -> Any:
            if file.path == self.path:
                self._note(change_of(*arguments, **options))
            return original(file, *arguments, **options)

        monkeypatch.setattr(HostFile, name, watched)

    def _note(self, change: Change | None) -> None:
        if change is None:
            self.epochs.append(Epoch(self.begun, self.durable))
        else:
            self.epochs[-1].changes.append(change)
            self.epochs[-1].begun = self.begun

    def begin(self) -> None:
        """Says that the next request begins."""
        self.begun += 1

    def settle(self) -> None:
        """Says that all requests so far are durable: the disk's own flush has returned."""
        self.durable = self.begun
        self.epochs.append(Epoch(self.begun, self.durable))

    def crashes(self, generator: random.Random, samples: int) -> Iterator[tuple[Epoch, bytes]]:
        """Yields (epoch, file content) for crashes in each epoch: the file with all, none, and random parts of its changes.

        An image is no larger after a flush; the same content comes once for each epoch.
        """
        content = bytearray(self.before)
        for epoch in self.epochs:
            seen = set()
            for part in self._parts(epoch.changes, generator, samples):
                crashed = bytearray(content)
                for change in part:
                    change.apply(crashed)
                if (digest := hash(bytes(crashed))) not in seen:
                    seen.add(digest)
                    yield epoch, bytes(crashed)
            for change in epoch.changes:
                change.apply(content)

    @staticmethod
    def _parts(changes: list[Change], generator: random.Random, samples: int) -> Iterator[list[Change]]:
        yield []
        yield changes
        for _ in range(samples if changes else 0):
            yield changes[: generator.randrange(len(changes) + 1)]  # killed: what was written is there
            kept = [change for change in changes if generator.random() < 0.5]
            yield [change.torn(generator) if generator.random() < 0.3 else change for change in kept]
