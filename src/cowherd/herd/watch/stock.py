"""Lists what to watch in a herd: its sealed images, the files that hold their content, and the directories of these."""

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
    """A sealed image. `record` is None if its seal is damaged; `files` are its own file and those of the chain below it.

    `dependents` are the overlays whose chains pass through it.
    """

    image: Image
    seal: Path
    record: SealRecord | None
    files: tuple[Path, ...]
    dependents: tuple[Path, ...]

    @property
    def path(self) -> Path:
        """Its first name, by which messages call it."""
        return self.image.path

    @property
    def names(self) -> tuple[Path, ...]:
        """All names under which the file was found."""
        return self.image.names

    @property
    def key(self) -> Key:
        """(device, inode) of the file."""
        return self.image.key


@dataclass(frozen=True)
class Stock:
    """A herd as it was at one moment. `bases` by path; `directories` are those in which names are watched.

    `by_file` maps the name of a file to the paths of the bases whose content or seal it holds.
    """

    lineage: Lineage
    bases: dict[Path, Base]
    directories: frozenset[Path]
    by_file: dict[Path, tuple[Path, ...]] = field(default_factory=dict)

    def of_file(self, path: Path) -> list[Base]:
        """Returns the bases whose content or seal is in the file of this name."""
        return [self.bases[base] for base in self.by_file.get(path, ())]


def take_stock(directories: Sequence[Path]) -> Stock:
    """Finds the sealed images in and under `directories`."""
    lineage = survey([directory for directory in directories if is_directory(directory)])  # one may have gone since the start
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
    """Yields a directory and those below it that a scan of the herd enters. Leaves out what can't be read, as a scan does."""
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
