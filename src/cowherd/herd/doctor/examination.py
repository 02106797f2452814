"""What the checks of one examination share: the herd, what was asked for, and how remedies are written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cowherd.herd.lineage import Lineage
from cowherd.herd.merging.pending import Pending
from cowherd.herd.scan import Image
from cowherd.herd.verify import Checker
from cowherd.live.holders import Holder, writers


@dataclass(frozen=True)
class Examination:
    """One look at a herd. `full`: content and tables are read too; `longest_chain`: more images in a chain are too many."""

    lineage: Lineage
    checker: Checker
    full: bool
    longest_chain: int

    @cached_property
    def images(self) -> tuple[Image, ...]:
        """The images, each base before its overlays."""
        return tuple(image for _, image in self.lineage.walk())

    @cached_property
    def bases(self) -> tuple[Image, ...]:
        """The images that others stand on."""
        return tuple(image for image in self.images if self.lineage.children(image))

    @cached_property
    def written(self) -> Mapping[Path, tuple[Holder, ...]]:
        """Which images of the herd other processes have open for writing right now."""
        return writers(image.path for image in self.images)

    @cached_property
    def merges(self) -> Pending:
        """The merges that run or were interrupted."""
        return Pending(self.lineage)

    def command(self, *words: str | os.PathLike[str], herd: bool = True) -> tuple[str, ...]:
        """Returns a command as words; with `herd` it looks for relatives where this examination did."""
        places = [word for place in self.lineage.directories for word in ("--herd", place)] if herd else []
        return (*(os.fspath(word) for word in words), *places)
