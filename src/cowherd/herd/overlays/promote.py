"""Freezing a machine's disk as a sealed base: as a copy that stands alone, or as it is, with a new overlay for the machine.

With a chain, the machine's name leads to the same content after each step: the file gets its new name beside the old one; its
overlays are rewritten to name it there; a finished new overlay takes the old name in one rename; and the base is sealed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.errors import BaseSealed, HostFileError, InvalidRequest
from cowherd.formats import registry
from cowherd.herd.lineage.backing_names import stored_name
from cowherd.herd.lineage.emptiness import holds_nothing
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.requirements import require_one_format
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.machines.domains import redefine, require_unnamed
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.records.sidecars import refuse_left_seal, require_liftable, require_sidecars_free
from cowherd.herd.seals.bind import bind
from cowherd.herd.seals.evidence import require_uncontradicted
from cowherd.herd.seals.held import held_content
from cowherd.herd.seals.naming import name_base, name_base_absolutely, require_nameable
from cowherd.herd.seals.quick_check import record_of, require_as_sealed
from cowherd.herd.seals.seal import Sealed, seal
from cowherd.herd.seals.soundness import require_sound_chain
from cowherd.live.holders import naming_holders
from cowherd.paths import in_real_directory, path_names
from cowherd.storage import atomic, losses
from cowherd.storage.attributes import Attributes, give_to, mode_before
from cowherd.storage.filetype import refuse_device_node
from cowherd.storage.holding import Holding
from cowherd.storage.presence import is_there
from cowherd.storage.protection import Protection
from cowherd.storage.space import check_space
from cowherd.storage.transfer import give_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cowherd.herd.lineage.scan import Image
    from cowherd.paths import PathName, PathNames
    from cowherd.progress import Progress
    from cowherd.storage.protection import Level


_UPDATE = "With --update-domains its definition is made to fit the new overlay; without --chained the disk stays as it is"


@dataclass(frozen=True)
class Promoted:
    """A new base: its path, its seal, and with a chain the path of the new overlay, which is the disk's (None if it was copied).

    `copied_bytes`: the bytes that were read to make it.
    """

    base: Path
    sealed: Sealed
    overlay: Path | None
    copied_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd promote --json` prints them."""
        record = self.sealed.record
        return {
            "base": os.fspath(self.base),
            "content_digest": record.content_digest.hex(),
            "level": record.level.label,
            "overlay": os.fspath(self.overlay) if self.overlay else None,
            "copied_bytes": self.copied_bytes,
        }


def promote(
    disk: PathName,
    base: PathName,
    *,
    chained: bool = False,
    level: Level = Protection.READONLY,
    compress: bool = False,
    update_domains: bool = False,
    herd: PathNames = (),
    force: bool = False,
    progress: Progress | None = None,
) -> Promoted:
    """Makes `base`, a new sealed image, from what the image `disk` holds now, and protects it to `level`.

    Without `chained`, the base is a copy that stands alone (compressed with `compress`), and `disk` stays as it is. With
    `chained`, the file of `disk` itself becomes the base, on the chain that it has, and an empty overlay of it takes the name
    `disk`, so that the machine goes on there. Both must then lie on one file system, and `update_domains` tells libvirt domains
    that name the disk that it is an overlay now. After a kill at any moment the same command can be given again.
    Raises `HostFileError` if something else has the name `base`, `ImageInUse` if a machine has the disk open, `BaseSealed` for a
    chained disk that is sealed, `DiskOfDomain` for one that a domain names, `NotEnoughSpace`, `DriftFound` if its base drifted,
    and, unless `force`, `NotSound` for a disk that is damaged, cut off or empty, or no disk image, and `BindingContradicted` for
    one that was made on another base.
    """
    herd, level = path_names(herd), Protection.named(level)
    source, target = Path(os.path.realpath(disk)), Path(in_real_directory(base))
    lineage = survey_around(source, target, herd=herd)
    image = lineage.find(source)
    require_none(lineage, lineage.chain(image), "make a base of")
    require_one_format(lineage, lineage.chain(image), "make a base of")
    _require_undrifted(lineage, image)
    with Holding() as held:
        if not force:
            children = lineage.children(image) if chained else ()
            require_uncontradicted(lineage, [image, *children], "make a base of it", held=held, progress=progress)
            require_sound_chain(lineage, image, "make a base of", opener=held.keep)
        if not chained:
            return _copy(lineage, image, target, level, herd, held, progress, compress=compress)
    if _is_frozen(lineage, image, target):
        return _seal_frozen(source, target, level, herd, progress, force=force)
    resumed = target.exists() and source.exists() and os.path.samefile(source, target)
    _require_room(target, resumed=resumed)
    refuse_device_node(source, "put another file in the place of", "without --chained its content is copied")
    namings = require_unnamed([image], "freeze", _UPDATE, redefining=update_domains)
    done = _freeze(lineage, image, source, target, level, herd, progress, force=force)
    redefine(namings, source, image_format=registry.OVERLAY, changes_chain=True)
    return done


def _require_room(target: Path, *, resumed: bool = False) -> None:
    """Raises `HostFileError` or `NameTaken` if something has the new base's name or its seal's; if `resumed` the disk has it."""
    if is_there(target) and not resumed:
        raise HostFileError(target, "create", FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)))
    require_sidecars_free(target)
    if not resumed:
        refuse_left_seal(target)


def _is_frozen(lineage: Lineage, image: Image, target: Path) -> bool:
    """Returns whether an interrupted freeze got as far as making the disk an overlay of the base, which holds nothing yet."""
    base = lineage.parent(image)
    return base is not None and base.key == _key_of(target) and holds_nothing(image)


def _is_done(base: Image, level: Protection) -> bool:
    record = record_of(base)
    return record is not None and record.level >= level


def _is_copy(lineage: Lineage, image: Image, target: Path, level: Protection, held: Holding, progress: Progress | None) -> bool:
    """Returns whether an interrupted copy lacks only its seal: the base is there and holds what the disk holds."""
    base = lineage.known(target)
    if base is None or base.format != registry.OVERLAY or base.backing or base.size != image.size or _is_done(base, level):
        return False
    with held_content(lineage, image, progress, held) as content, held_content(lineage, base, progress) as copy:
        return copy.content.content_digest == content.content.content_digest


def _key_of(path: Path) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _require_undrifted(lineage: Lineage, image: Image) -> None:
    for below in lineage.chain(image)[1:]:
        require_as_sealed(lineage, below, "make a base of what stands on it")


def _copy(
    lineage: Lineage,
    image: Image,
    target: Path,
    level: Protection,
    herd: Sequence[PathName],
    held: Holding,
    progress: Progress | None,
    *,
    compress: bool,
) -> Promoted:
    """Makes a new image of what the disk shows, and seals it; the disk and its chain are `held` meanwhile."""
    from cowherd.ops.convert.convert import convert

    if is_there(target) and _is_copy(lineage, image, target, level, held, progress):
        return Promoted(target, seal(target, level=level, image_format=registry.OVERLAY, herd=herd, progress=progress), None, 0)
    _require_room(target)
    size = sum(file.disk_size for file in lineage.chain(image))
    check_space([(target.parent, size)])
    require_free(stable=lineage.chain(image), held=held)
    unfinished, attributes = atomic.temporary_name(target), _attributes(image)
    try:
        with naming_holders(), atomic.meant_for(target, unfinished):
            atomic.make_private(unfinished, attributes)
            convert(
                image.path,
                unfinished,
                source_format=image.format,
                target_format=registry.OVERLAY,
                compress=compress,
                opener=held.open,
                progress=progress,
            )
        require_free(stable=lineage.chain(image), held=held)
        losses.note(target, give_to(unfinished, attributes))
        give_name(Path(unfinished), target)
    finally:
        with contextlib.suppress(OSError):  # gc finds it, and the first error says more
            os.unlink(unfinished)
    return Promoted(
        target, seal(target, level=level, image_format=registry.OVERLAY, herd=herd, looked_at=True, progress=progress), None, size
    )


def _attributes(image: Image) -> Attributes:
    """Returns the attributes of a disk; for a sealed disk, with the mode that it had before it was sealed."""
    record = record_of(image)
    found = Attributes.of(image.path)
    return found._replace(mode=mode_before(found.mode, record.mode_before)) if record else found


def _freeze(
    lineage: Lineage,
    image: Image,
    source: Path,
    target: Path,
    level: Protection,
    herd: Sequence[PathName],
    progress: Progress | None,
    *,
    force: bool,
) -> Promoted:
    if image.seal:
        raise BaseSealed(image.path, "freeze", [dependent.path for dependent in lineage.dependents(image)])
    if os.stat(source).st_dev != os.stat(target.parent).st_dev:
        raise InvalidRequest("a chained base must lie on the file system of the disk; without --chained it is copied")
    require_liftable(image.path, "make a base of", seal=image.seal)
    require_nameable(lineage.children(image))
    require_free([image, *lineage.children(image)], lineage.chain(image))
    if source.parent != target.parent:
        name_base_absolutely(lineage, image)
    give_name(source, target)
    for child in lineage.children(image):
        name_base(child, target)
    _replace_by_overlay(source, target, image)
    return _seal_frozen(source, target, level, herd, progress, force=force)


def _seal_frozen(
    source: Path, target: Path, level: Protection, herd: Sequence[PathName], progress: Progress | None, *, force: bool
) -> Promoted:
    """Seals a disk that has become a base, and binds what stands on it."""
    sealed = seal(target, level=level, herd=herd, looked_at=True, force=force, progress=progress)
    after = survey_around(source, target, herd=herd)
    for child in after.children(after.find(target)):
        bind(after, child, sealed.record, rebind=force)
    return Promoted(target, sealed, source, 0)


def _replace_by_overlay(source: Path, target: Path, image: Image) -> None:
    """Replaces the name `source` by an empty overlay of `target` that has the attributes of the disk."""
    from cowherd.ops.create import create

    unfinished, attributes = atomic.temporary_name(source), Attributes.of(source)
    try:
        with atomic.meant_for(source, unfinished):
            atomic.make_private(unfinished, attributes)
            create(unfinished, image.size, backing=stored_name(target, source), backing_format=image.format)
        losses.note(
            source, give_to(unfinished, attributes)
        )  # durably: the machine must be able to open it after a power cut, too
        require_free([source])
        os.rename(unfinished, source)
    except HostFileError:
        raise
    except OSError as error:
        raise HostFileError(source, "replace", error) from error
    finally:
        with contextlib.suppress(OSError):  # it has its name, or the first error says more
            os.unlink(unfinished)
    atomic.sync_directory(source.parent)
