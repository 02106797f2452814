"""What there is to watch in a herd: its sealed images, the files that their content comes from, and the directories around."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.scan import Image, Key
from cowherd.herd.lineage.survey import survey
from cowherd.herd.records.ownership import TRASH
from cowherd.herd.records.sealrecord import SealRecord
from cowherd.herd.seals.quick_check import record_or_none
from cowherd.storage.presence import is_directory


@dataclass(frozen=True)
class Base:
    """A sealed image. `record` is None where its seal is damaged; `files` are its own file and those of the chain below it.

    `names` are those that the image was found under; `dependents` the overlays whose chains pass through it.
    """

    image: Image
    seal: Path
    record: SealRecord | None
    files: tuple[Path, ...]
    dependents: tuple[Path, ...]

    @property
    def path(self) -> Path:
        """The name that it is called by."""
        return self.image.path

    @property
    def names(self) -> tuple[Path, ...]:
        """All the names of the file."""
        return self.image.names

    @property
    def key(self) -> Key:
        """Which file it is."""
        return self.image.key


@dataclass(frozen=True)
class Stock:
    """A herd as it was at one moment. `bases` by path; `directories` are those in which names matter."""

    lineage: Lineage
    bases: dict[Path, Base]
    directories: frozenset[Path]
    by_file: dict[Path, tuple[Path, ...]] = field(default_factory=dict)

    def of_file(self, path: Path) -> list[Base]:
        """Returns the bases whose content comes from the file of this name, or whose seal it is."""
        return [self.bases[base] for base in self.by_file.get(path, ())]


def take_stock(directories: Sequence[Path]) -> Stock:
    """Looks through `directories`, with everything under them, for sealed images."""
    lineage = survey([directory for directory in directories if is_directory(directory)])  # one may have gone meanwhile
    bases = {image.path: _base(lineage, image) for image in lineage.shown if image.seal}
    by_file: dict[Path, tuple[Path, ...]] = {}
    for base in bases.values():
        for path in {*base.files, *base.names, base.seal}:
            by_file[path] = (*by_file.get(path, ()), base.path)
    around = {path.parent for path in by_file}
    around |= {Path(found) for directory in directories for found in _directories_under(directory)}
    return Stock(lineage, bases, frozenset(around), by_file)


def _base(lineage: Lineage, image: Image) -> Base:
    record = record_or_none(image)
    return Base(
        image=image,
        seal=Path(image.expected_seal),
        record=record,
        files=tuple(file.path for file in lineage.chain(image)),
        dependents=tuple(dependent.path for dependent in lineage.dependents(image)),
    )


def _directories_under(directory: Path) -> Iterator[str]:
    """Yields a directory and those below it that a scan of the herd enters; what can't be read is left out, as there."""
    pending = [os.path.realpath(directory)]
    try:
        device = os.stat(directory).st_dev
    except OSError:
        return
    while pending:
        current = pending.pop()
        yield current
        try:
            with os.scandir(current) as entries:
                below = [entry.path for entry in entries if entry.name != TRASH and entry.is_dir(follow_symlinks=False)]
            pending += [path for path in below if os.lstat(path).st_dev == device]
        except OSError:
            continue
