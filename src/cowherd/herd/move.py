"""Moving an image: every overlay of it then names it where it is.

No journal is needed, because each step can be done again and leaves every image readable under the names that are valid then:

1. an overlay that moves to another directory names its own base by its absolute path, which is right from both places;
2. the file gets its new name beside the old one (a hard link; across file systems a copy that was read back);
3. its seal and its shadow get theirs;
4. the overlays of it are rewritten one by one: each names the old place or the new one, and both hold the same;
5. the old names are removed, the file's last;
6. its own base gets its proper name again, and seals that held before learn what has become of their files.

Killed in between, the same command goes on from there. Seals may be `touched` then: their files were, and nobody knows any more
that it was by this; `verify --full --refresh` settles it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cowherd.errors import HostFileError, InvalidRequest, preview
from cowherd.formats.reference import BackingReference
from cowherd.herd.keeping import Kept, holding_seals
from cowherd.herd.lineage import Lineage, survey_around
from cowherd.herd.merging.pending import require_none
from cowherd.herd.naming import name_for, write_reference
from cowherd.herd.requirements import require_readable
from cowherd.herd.seal import make_shadow, record_files
from cowherd.herd.sealfile import SHADOW_SUFFIX, SealRecord, is_sealed, seal_path
from cowherd.live.holders import naming_holders
from cowherd.storage import atomic, protection
from cowherd.storage.durable import make_durable
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE
from cowherd.storage.presence import is_directory, is_there
from cowherd.storage.protection import Protection
from cowherd.storage.space import check_space
from cowherd.storage.transfer import give_name, take_name
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.herd.scan import Image
    from cowherd.storage.transfer import Progress

PathName = str | os.PathLike[str]


class Move(NamedTuple):
    """What is to be done: the file `source` becomes `target`, and `overlays` are rewritten to name it there.

    `copied_bytes` is what has to be copied because the target lies on another file system, 0 on the same.
    """

    image: Image
    source: Path
    target: Path
    overlays: tuple[Image, ...]
    copied_bytes: int


def move(
    source: PathName,
    target: PathName,
    *,
    dry_run: bool = False,
    ignore_unreadable: bool = False,
    herd: Sequence[PathName] = (),
    progress: Progress | None = None,
) -> Move:
    """Moves the image file `source` to `target`, a new name or a directory, with its seal, and rewrites the overlays of it.

    Overlays are looked for in the directories of both and in `herd`: those elsewhere lose their base, as do, with
    `ignore_unreadable`, those that can't be read. `dry_run` only plans.
    Raises `HerdNotReadable`, `HostFileError` if another file is at the target, `ImageInUse` if the image or an overlay is in use,
    `NotEnoughSpace`; nothing has been changed then.
    """
    plan, lineage = _plan(source, target, herd)
    if not dry_run:
        if not ignore_unreadable:
            require_readable(lineage, plan.image, "move")
        _require_free(plan)
        check_space([(plan.target.parent, plan.copied_bytes)])
        with naming_holders():
            _execute(plan, lineage, herd, progress)
    return plan


def _plan(source: PathName, target: PathName, herd: Sequence[PathName]) -> tuple[Move, Lineage]:
    real = Path(os.path.realpath(source))
    wanted = Path(os.path.realpath(target)) / real.name if is_directory(target) else Path(os.path.abspath(target))
    wanted = Path(os.path.realpath(wanted.parent)) / wanted.name
    if wanted == real:
        raise InvalidRequest(f"{printable(real)} is there already")
    lineage = survey_around(real, wanted, herd=herd)
    image = lineage.find(real)
    require_none(lineage, [image, *lineage.children(image)], "move")
    _refuse_parts(lineage, image)
    if not is_there(wanted) and is_sealed(wanted):
        raise InvalidRequest(
            f"the seal of an image that is gone has the name of {printable(wanted)}; 'cowherd unseal' removes it"
        )
    overlays = tuple(child for child in lineage.children(image) if _names(lineage, child, real))
    copied = 0 if os.stat(real).st_dev == _device(wanted.parent) else image.disk_size
    return Move(image, real, wanted, overlays, copied), lineage


def _refuse_parts(lineage: Lineage, image: Image) -> None:
    """An image whose parts lie in several files would not find them from elsewhere: nobody rewrites those names."""
    whole = lineage.made_of(image)
    if whole:
        raise InvalidRequest(f"{printable(image.path)} is a part of {preview([one.filename for one in whole])}, which names it")
    parts = lineage.parts(image)
    if parts:
        raise InvalidRequest(f"{printable(image.path)} is made of further files, {preview([one.filename for one in parts])}")


def _device(directory: Path) -> int:
    try:
        return os.stat(directory).st_dev
    except OSError as error:
        raise HostFileError(directory, "move into", error) from error


def _names(lineage: Lineage, overlay: Image, file: Path) -> bool:
    return any(link.path is not None and Path(os.path.realpath(link.path)) == file for link in lineage.links(overlay))


def _require_free(plan: Move) -> None:
    """Raises `ImageInUse` if a file that must be changed or moved is in use, before anything has been done."""
    with naming_holders():
        for image in (plan.image, *plan.overlays):
            HostFile.open(image.path, lock=WRITE).close()


def _execute(plan: Move, lineage: Lineage, herd: Sequence[PathName], progress: Progress | None) -> None:
    kept = holding_seals(lineage, plan.image)
    if is_there(plan.target):
        _make_earlier_run_durable(plan, lineage)
    with _protection_lifted(plan):
        _name_own_base_from_everywhere(plan, lineage)
        give_name(plan.source, plan.target, progress)
        _copy_seal(plan)
        for overlay in plan.overlays:
            assert overlay.backing is not None
            write_reference(overlay, BackingReference(name_for(overlay, plan.target), overlay.backing.format))
        _remove_old_seal(plan)
        take_name(plan.source)
        after = survey_around(plan.target, plan.source, *(overlay.path for overlay in plan.overlays), herd=herd)
        _name_own_base_properly(after, plan)
    _record(plan, kept, herd)


def _make_earlier_run_durable(plan: Move, lineage: Lineage) -> None:
    """The same command was killed: overlays that it rewrote are not rewritten again, and their base's old name goes."""
    moved = lineage.known(plan.target)
    rewritten = [child.path for child in lineage.children(moved)] if moved else []
    make_durable(plan.source, plan.target, seal_path(plan.target), _shadow(plan.target), *rewritten)


@contextlib.contextmanager
def _protection_lifted(plan: Move) -> Iterator[None]:
    """Lets the file be linked to and removed, which the immutable attribute prevents; afterwards it is protected as before."""
    level = protection.current(plan.source)
    if level is Protection.IMMUTABLE:
        protection.unprotect(plan.source, os.stat(plan.source).st_mode)
    try:
        yield
    finally:
        for path in (plan.target, plan.source):
            if path.exists():
                protection.protect(path, level)


def _name_own_base_from_everywhere(plan: Move, lineage: Lineage) -> None:
    base = lineage.parent(plan.image)
    if base and plan.image.backing and plan.source.parent != plan.target.parent:
        absolute = os.path.realpath(base.path)
        write_reference(plan.image, BackingReference(absolute, plan.image.backing.format))


def _name_own_base_properly(lineage: Lineage, plan: Move) -> None:
    image = lineage.find(plan.target)
    base = lineage.parent(image)
    if base and image.backing and plan.source.parent != plan.target.parent:
        write_reference(image, BackingReference(name_for(image, base.path), image.backing.format))


def _copy_seal(plan: Move) -> None:
    """Puts the seal beside the new name as it is; its shadow too, where that costs nothing."""
    old, new = seal_path(plan.source), seal_path(plan.target)
    if is_there(old):
        with HostFile.open(old, lock=None) as file:
            atomic.write_atomically(new, file.pread(0, file.size()), mode=0o444)
    shadow = _shadow(plan.source)
    if shadow.exists() and not plan.copied_bytes:
        give_name(shadow, _shadow(plan.target))


def _remove_old_seal(plan: Move) -> None:
    for path in (seal_path(plan.source), _shadow(plan.source)):
        take_name(path)


def _shadow(image: Path) -> Path:
    return image.with_name(image.name + SHADOW_SUFFIX)


def _record(plan: Move, kept: Sequence[Kept], herd: Sequence[PathName]) -> None:
    """Makes the seals that held know their files as they are now."""
    after = survey_around(plan.target, plan.source, *(overlay.path for overlay in plan.overlays), herd=herd)
    for seal in kept:
        moved = seal.image.key == plan.image.key
        image = after.known(plan.target) if moved else after.images.get(seal.image.key)
        if image:
            record = _with_shadow(plan, seal.record) if moved else seal.record
            record_files(after, image, record, seal.digests)


def _with_shadow(plan: Move, record: SealRecord) -> SealRecord:
    if record.shadow is None:
        return record
    there = _shadow(plan.target)
    return record._replace(shadow=there.name if there.exists() else make_shadow(plan.target))
