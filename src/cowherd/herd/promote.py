"""Freezing a machine's disk as a sealed base: as a copy that stands alone, or as it is, with a new overlay for the machine.

Chained, each step leaves the machine's name leading to the same content: the file gets its new name beside the old one, what
stands on it is rewritten to name it there, a finished new overlay takes the old name in one rename, and the base is sealed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cowherd.errors import BaseSealed, HostFileError, InvalidRequest
from cowherd.formats.reference import BackingReference
from cowherd.herd.clone import stored_name
from cowherd.herd.condition import condition
from cowherd.herd.faults import DriftFound
from cowherd.herd.lineage import Lineage, survey_around
from cowherd.herd.merging.pending import require_none
from cowherd.herd.naming import name_for, write_reference
from cowherd.herd.requirements import require_one_format
from cowherd.herd.seal import Sealed, bind, seal
from cowherd.herd.sealfile import is_sealed
from cowherd.herd.soundness import require_sound_chain
from cowherd.herd.status import Status
from cowherd.herd.trash import require_unused
from cowherd.live.holders import naming_holders
from cowherd.storage import atomic
from cowherd.storage.durable import make_durable
from cowherd.storage.identity import make_lasting
from cowherd.storage.presence import is_there
from cowherd.storage.protection import Protection
from cowherd.storage.space import check_space
from cowherd.storage.transfer import give_name
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.herd.digest import Progress
    from cowherd.herd.scan import Image

PathName = str | os.PathLike[str]


@dataclass(frozen=True)
class Promoted:
    """A new base: its path, its seal, and with a chain where the new overlay is, under the disk's name (None if it was copied).

    `copied_bytes` is what was read to make it.
    """

    base: Path
    sealed: Sealed
    overlay: Path | None
    copied_bytes: int


def promote(
    disk: PathName,
    base: PathName,
    *,
    chained: bool = False,
    level: Protection = Protection.READONLY,
    compress: bool = False,
    herd: Sequence[PathName] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> Promoted:
    """Makes `base`, a new sealed image, from what the image `disk` holds now, and protects it to `level`.

    Copied, `disk` stays as it is, and the base stands alone (compressed, if asked). `chained`, the file of `disk` itself becomes
    the base, on the chain that it has, and an empty overlay of it takes the name `disk`, so that the machine goes on there; for
    that both must lie on one file system. Raises `HostFileError` if something has the name `base`, `ImageInUse` if a machine has
    the disk open, `BaseSealed` for a chained disk that is sealed, `NotEnoughSpace`, `DriftFound` if the disk's base had drifted,
    and, unless `force`, `NotSound` for a disk that is damaged, cut off, empty, or no disk image.
    """
    source, target = (
        Path(os.path.realpath(disk)),
        Path(os.path.realpath(os.path.dirname(os.path.abspath(base)))) / Path(base).name,
    )
    lineage = survey_around(source, target, herd=herd)
    image = lineage.find(source)
    require_none(lineage, lineage.chain(image), "make a base of")
    require_one_format(lineage, lineage.chain(image), "make a base of")
    _require_undrifted(lineage, image)
    if not force:
        require_sound_chain(lineage, image, "make a base of")
    resumed = chained and target.exists() and source.exists() and os.path.samefile(source, target)
    if is_there(target) and not resumed:
        raise HostFileError(target, "create", FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)))
    if is_sealed(target) and not resumed:
        raise InvalidRequest(
            f"the seal of an image that is gone has the name of {printable(target)}; 'cowherd unseal' removes it"
        )
    if chained:
        return _freeze(lineage, image, source, target, level, herd, progress)
    return _copy(lineage, image, target, level, herd, progress, compress=compress)


def _require_undrifted(lineage: Lineage, image: Image) -> None:
    for below in lineage.chain(image)[1:]:
        if below.seal and condition(lineage, below).status is not Status.OK:
            raise DriftFound(below.path, condition(lineage, below).status, "make a base of what stands on it")


def _copy(
    lineage: Lineage,
    image: Image,
    target: Path,
    level: Protection,
    herd: Sequence[PathName],
    progress: Progress | None,
    *,
    compress: bool,
) -> Promoted:
    from cowherd.ops.convert import convert

    size = sum(file.disk_size for file in lineage.chain(image))
    check_space([(target.parent, size)])
    unfinished = target.with_name(f".cowherd-{os.urandom(8).hex()}")
    try:
        with naming_holders():
            convert(
                image.path, unfinished, source_format=image.format, target_format="qcow2", compress=compress, progress=progress
            )
        give_name(unfinished, target)
    finally:
        with contextlib.suppress(OSError):  # gc finds it, and the first error says more
            unfinished.unlink()
    return Promoted(target, seal(target, level=level, image_format="qcow2", herd=herd, force=True, progress=progress), None, size)


def _freeze(
    lineage: Lineage,
    image: Image,
    source: Path,
    target: Path,
    level: Protection,
    herd: Sequence[PathName],
    progress: Progress | None,
) -> Promoted:
    if image.seal:
        raise BaseSealed(image.path, "freeze", [dependent.path for dependent in lineage.dependents(image)])
    if os.stat(source).st_dev != os.stat(target.parent).st_dev:
        raise InvalidRequest("a chained base must lie on the file system of the disk; without --chained it is copied")
    require_unused([image, *lineage.children(image)])
    if is_there(target):  # by the same command, which was killed
        make_durable(source, target, *(child.path for child in lineage.children(image)))
    parent = lineage.parent(image)
    if parent and source.parent != target.parent and image.backing:
        write_reference(image, BackingReference(os.path.realpath(parent.path), image.backing.format))
    give_name(source, target)
    for child in lineage.children(image):
        if child.backing:
            write_reference(child, BackingReference(name_for(child, target), child.backing.format))
    _replace_by_overlay(source, target, image)
    sealed = seal(target, level=level, image_format=image.format, herd=herd, force=True, progress=progress)
    after = survey_around(source, target, herd=herd)
    for child in after.children(after.find(target)):
        bind(after, child, sealed.record)
    return Promoted(target, sealed, source, 0)


def _replace_by_overlay(source: Path, target: Path, image: Image) -> None:
    """Puts an empty overlay of `target`, with the mode and the owner that the disk has, in the place of the name `source`."""
    from cowherd.ops.create import create

    unfinished = source.with_name(f".cowherd-{os.urandom(8).hex()}")
    disk = os.stat(source)
    try:
        create(unfinished, image.size, backing=stored_name(target, source), backing_format=image.format)
        with contextlib.suppress(PermissionError):  # only root gives files away; then it is ours, as every new file
            os.chown(unfinished, disk.st_uid, disk.st_gid)
        os.chmod(unfinished, stat.S_IMODE(disk.st_mode))
        make_lasting(unfinished)  # the machine must be able to open it after a power cut, too
        os.rename(unfinished, source)
    except OSError as error:
        raise HostFileError(source, "replace", error) from error
    finally:
        with contextlib.suppress(OSError):  # it has its name, or the first error says more
            unfinished.unlink()
    atomic.sync_directory(source.parent)
