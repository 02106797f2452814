"""Adopting overlays that others made: the format of their base is recorded, their base sealed, and they are bound to it."""

from __future__ import annotations

import os
from pathlib import Path

from cowherd.errors import BackingFileError, CowherdError, InvalidRequest
from cowherd.formats.reference import BackingReference
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.survey import survey_again, survey_around
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.records.binding import Binding
from cowherd.herd.records.faults import NotSealed
from cowherd.herd.seals.bind import bind
from cowherd.herd.seals.naming import write_reference_keeping_seals
from cowherd.herd.seals.quick_check import record_of, require_as_sealed
from cowherd.herd.seals.seal import Sealed, seal
from cowherd.herd.seals.soundness import require_sound_chain
from cowherd.image.backing import resolve
from cowherd.paths import path_names
from cowherd.storage.presence import parted
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.paths import PathName, PathNames
    from cowherd.progress import Progress


class Adopted(NamedTuple):
    """What adopting one overlay did: `sealed_now` and `format_recorded` (None if one was recorded before) say what was missing.

    `problem`: why it could not be bound; `base` and `binding` may be None then.
    """

    overlay: Path
    base: Path | None = None
    binding: Binding | None = None
    sealed_now: bool = False
    format_recorded: str | None = None
    problem: CowherdError | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd bind --json` prints them."""
        return {
            "overlay": os.fspath(self.overlay),
            "base": os.fspath(self.base) if self.base else None,
            "bound": self.binding is not None,
            "content_digest": self.binding.content_digest.hex() if self.binding else None,
            "sealed_now": self.sealed_now,
            "format_recorded": self.format_recorded,
            "problem": str(self.problem) if self.problem else None,
        }


def adopt(
    images: PathNames,
    *,
    base_format: str | None = None,
    seal_bases: bool = True,
    rebind: bool = False,
    herd: PathNames = (),
    progress: Progress | None = None,
) -> list[Adopted]:
    """Binds overlays to the bases that they stand on; a directory among `images` means every overlay in it that is not bound.

    A base that is not sealed is sealed as it is now, unless `seal_bases` is False. `base_format` is recorded in overlays that
    record none; it is needed where neither a seal nor another overlay says the format, because guessing is not safe. An overlay
    that is bound to other content is left alone unless `rebind`: then what it shows now counts as right. The `problem` of an
    overlay says what went wrong with it.
    """
    images, herd = path_names(images), path_names(herd)
    directories, named = parted(images)
    lineage = survey_around(*named, herd=[*herd, *directories])
    done: list[Adopted] = []
    written: set[Key] = set()
    for overlay in _overlays(lineage, named, directories):
        if written.intersection(image.key for image in lineage.chain(lineage.find(overlay))):
            lineage, written = survey_again(lineage), set()
        job = _Adoption(lineage, overlay, base_format, rebind=rebind, progress=progress)
        done.append(job.run(seal_bases=seal_bases))
        lineage = job.lineage
        written.add(lineage.find(overlay).key)
    return done


def _overlays(lineage: Lineage, named: Iterable[PathName], directories: Iterable[PathName]) -> Iterator[Path]:
    """Yields the overlays that the caller means, each once."""
    seen = set()
    for path in named:
        image = lineage.find(path)
        if image.key not in seen:
            seen.add(image.key)
            yield image.path
    roots = [Path(os.path.realpath(directory)) for directory in directories]
    for _, image, _ in lineage.walk():
        inside = any(name.is_relative_to(root) for name in image.names for root in roots)
        unbound = image.backing is not None and image.binding is None and not image.problem
        if inside and unbound and image.key not in seen:
            yield image.path


class _Adoption:
    """Adopts one overlay; every step sees the herd as the steps before it have left it."""

    def __init__(self, lineage: Lineage, overlay: Path, base_format: str | None, *, rebind: bool, progress: Progress | None):
        self.lineage, self.done = lineage, Adopted(overlay)
        self.base_format, self.rebind, self.progress = base_format, rebind, progress

    @property
    def overlay(self) -> Image:
        return self.lineage.find(self.done.overlay)

    @property
    def base(self) -> Image:
        image = self.overlay
        broken = self.lineage.broken(image)
        if broken:
            name = os.fspath(broken.name if broken.unknown or not broken.path else broken.path)
            raise BackingFileError(image.path, name, broken.problem or "it is not there")
        base = self.lineage.parent(image)
        if base is None:
            raise InvalidRequest(f"{printable(image.path)} has no base to be bound to")
        return base

    def run(self, *, seal_bases: bool) -> Adopted:
        try:
            self.done = self.done._replace(base=self.base.path)
            require_none(self.lineage, [self.overlay, self.base], "bind")
            require_free([self.overlay], self.lineage.chain(self.base))
            self._record_format()
            if self.base.seal is None and seal_bases:
                sealed = self._seal()
                self.done = self.done._replace(sealed_now=sealed.anew)
                self.lineage = survey_again(self.lineage)
            self._bind()
        except CowherdError as error:
            self.done = self.done._replace(problem=error)
        return self.done

    def _seal(self) -> Sealed:
        """Seals the base as it is, which `rebind` declares to be right; other overlays stay bound to what they were made on."""
        base = self.base
        require_sound_chain(self.lineage, base, "seal", stated=True)
        return seal(
            base.path, image_format=base.format, force=self.rebind, looked_at=True, herd=self._herd(), progress=self.progress
        )

    def _herd(self) -> list[str]:
        return [directory for directory, levels in self.lineage.directories.items() if levels is None]

    def _bind(self) -> None:
        record = record_of(self.base)
        if record is None:
            raise NotSealed(self.base.path)
        require_as_sealed(self.lineage, self.base, f"bind {printable(self.overlay.path)} to it")
        bind(self.lineage, self.overlay, record, rebind=self.rebind)
        self.done = self.done._replace(binding=Binding.to(record))

    def _record_format(self) -> None:
        overlay = self.overlay
        assert overlay.backing is not None
        recorded = resolve(overlay.path, overlay.backing).format
        if recorded is not None:
            if self.base_format not in (None, recorded):
                raise InvalidRequest(f"{printable(overlay.path)} records its base as {recorded}, not {self.base_format}")
            return
        chosen = self.base_format or self._known_format()
        write_reference_keeping_seals(self.lineage, overlay, BackingReference(overlay.backing.name, chosen))
        self.done = self.done._replace(format_recorded=chosen)
        self.lineage = survey_again(self.lineage)

    def _known_format(self) -> str:
        """Returns the format that the base's seal or another overlay records."""
        base = self.base
        record = record_of(base)
        if record:
            return record.format
        for sibling in self.lineage.children(base):
            recorded = recorded_format(sibling)
            if recorded is not None:
                return recorded
        raise InvalidRequest(
            f"nothing records the format of {printable(base.path)}, and guessing it is not safe; its first bytes "
            f"look like {base.format}. Name it with --format"
        )


def recorded_format(overlay: Image) -> str | None:
    """Returns the format that an overlay records for its base, None if it records none or its name is not understood."""
    try:
        return resolve(overlay.path, overlay.backing).format if overlay.backing else None
    except BackingFileError:
        return None
