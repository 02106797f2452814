"""Moving an image: afterwards every overlay of it names it at its new place.

No journal is needed, because each step can be done again and leaves every image readable under the names that are valid then:

1. an overlay that moves to another directory names its own base by its absolute path, which is right from both places;
2. the file gets its new name beside the old one (a hard link; across file systems a copy that was read back);
3. its seal and its shadow get their new names;
4. its overlays are rewritten one by one: each names the old place or the new one, and both hold the same;
5. the old names are removed, the file's own last;
6. the file gets the proper name of its own base again, and seals that held before record how their files are now.

After an interruption the same command goes on from there. Seals may be `touched` then: their files have changed, and nobody
knows any more that this command changed them; `verify --full --refresh` settles it.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from cowherd.errors import HostFileError, InvalidRequest, preview
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.requirements import require_readable
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.log import concerned
from cowherd.herd.machines.domains import redefine, require_unnamed
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.records.sealplace import forget_listing, is_kept, is_sealed, seal_path
from cowherd.herd.records.sealrecord import SealRecord
from cowherd.herd.records.sidecars import refuse_left_seal, require_liftable, require_sidecars_free, shadow_path, sidecars
from cowherd.herd.seals.naming import name_base, name_base_absolutely, require_nameable
from cowherd.herd.seals.recorded_files import record_files
from cowherd.herd.seals.shadow import NewShadow, keep_shadow, renew_shadow, shadow_of
from cowherd.herd.seals.upkeep import Kept, holding_seals
from cowherd.live.holders import naming_holders
from cowherd.paths import in_real_directory, path_names
from cowherd.storage import atomic, protection
from cowherd.storage.durable import make_durable
from cowherd.storage.filetype import refuse_device_node
from cowherd.storage.hostfile import HostFile
from cowherd.storage.presence import is_directory, is_there
from cowherd.storage.space import check_space
from cowherd.storage.transfer import give_name, take_name
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.machines.domains import Naming
    from cowherd.paths import PathName, PathNames
    from cowherd.progress import Progress


_UPDATE = "With --update-domains its definition is made to name it in its new place"


_INSTEAD_OF_A_DEVICE = "'cowherd-img convert' copies its content into a file, and 'cowherd retarget' puts its overlays on that"


class Move(NamedTuple):
    """What is to be done: the file `source` becomes `target`, and `overlays` are rewritten to name it there.

    `copied_bytes`: the bytes to copy because the target lies on another file system, 0 on the same one.
    """

    image: Image
    source: Path
    target: Path
    overlays: tuple[Image, ...]
    copied_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd move --json` prints them, but for whether it was done."""
        return {
            "source": os.fspath(self.source),
            "target": os.fspath(self.target),
            "overlays": [os.fspath(overlay.path) for overlay in self.overlays],
            "copied_bytes": self.copied_bytes,
        }


def move(
    source: PathName,
    target: PathName,
    *,
    dry_run: bool = False,
    ignore_unreadable: bool = False,
    update_domains: bool = False,
    herd: PathNames = (),
    progress: Progress | None = None,
) -> Move:
    """Moves the image file `source` to `target`, a new name or a directory, with its seal, and makes its overlays name it there.

    It looks for overlays in the directories of both and in `herd`. Overlays elsewhere lose their base; so do, with
    `ignore_unreadable`, those that can't be read. `dry_run` only plans. With `update_domains` the definitions of libvirt domains
    that name the image are changed to name it at its new place.
    Raises, with nothing changed, `HerdNotReadable`, `HostFileError` if another file is at the target, `ImageInUse` if the image
    or an overlay is in use, `ProtectedByOthers`, `NameTaken` if something else has the name of its seal or its shadow there,
    `NotEnoughSpace`, and, unless `update_domains`, `DiskOfDomain` if a libvirt domain names the image.
    """
    herd = path_names(herd)
    plan, lineage = _plan(source, target, herd)
    namings = require_unnamed([plan.image], "move", _UPDATE, redefining=update_domains)
    if not dry_run:
        if not ignore_unreadable:
            require_readable(lineage, plan.image, "move")
        _require_free(plan)
        check_space([(plan.target.parent, plan.copied_bytes)])
        concerned.note([plan.target])
        with naming_holders():
            _execute(plan, lineage, namings, herd, progress)
    return plan


def _plan(source: PathName, target: PathName, herd: Sequence[PathName]) -> tuple[Move, Lineage]:
    refuse_device_node(source, "move", _INSTEAD_OF_A_DEVICE)
    real = Path(os.path.realpath(source))
    wanted = Path(os.path.realpath(target)) / real.name if is_directory(target) else Path(in_real_directory(target))
    if os.fspath(target).endswith("/") and wanted.parent == Path(os.path.realpath(target)).parent:
        raise HostFileError(target, "move to", NotADirectoryError(errno.ENOTDIR, "there is no such directory"))
    if wanted == real:
        raise InvalidRequest(f"{printable(real)} is there already")
    lineage = survey_around(real, wanted, herd=herd)
    image = lineage.find(real)
    require_none(lineage, [image, *lineage.children(image)], "move")
    _refuse_parts(lineage, image)
    if not is_there(wanted):
        refuse_left_seal(wanted)
    overlays = tuple(child for child in lineage.children(image) if _names(lineage, child, real))
    _require_movable(image, real, wanted, overlays)
    copied = 0 if os.stat(real).st_dev == _device(wanted.parent) else image.disk_size
    return Move(image, real, wanted, overlays, copied), lineage


def _refuse_parts(lineage: Lineage, image: Image) -> None:
    """Refuses an image that lies in several files: it would not find its parts from elsewhere; nobody rewrites their names."""
    whole = lineage.made_of(image)
    if whole:
        raise InvalidRequest(f"{printable(image.path)} is a part of {preview([one.filename for one in whole])}, which names it")
    parts = lineage.parts(image)
    if parts:
        raise InvalidRequest(f"{printable(image.path)} is made of further files, {preview([one.filename for one in parts])}")


def _require_movable(image: Image, source: Path, target: Path, overlays: Sequence[Image]) -> None:
    require_liftable(source, "move", seal=image.seal)
    require_nameable(overlays)
    own = sidecars(source)
    if own:
        moves_shadow = len(own) > 1 and not _is_second_name(shadow_path(target), shadow_path(source))
        require_sidecars_free(target, shadow=moves_shadow)


def _is_second_name(path: Path, file: Path) -> bool:
    return is_there(path) and os.path.samestat(os.lstat(path), os.lstat(file))


def _device(directory: Path) -> int:
    try:
        return os.stat(directory).st_dev
    except OSError as error:
        raise HostFileError(directory, "move into", error) from error


def _names(lineage: Lineage, overlay: Image, file: Path) -> bool:
    return any(link.path is not None and _is_one_name(Path(os.path.realpath(link.path)), file) for link in lineage.links(overlay))


def _is_one_name(one: Path, other: Path) -> bool:
    """Whether two paths are one directory entry, though several paths may lead to the directory; another hard link is not."""
    return one == other or (one.name == other.name and one.parent.is_dir() and os.path.samefile(one.parent, other.parent))


def _as_seen_by(lineage: Lineage, overlay: Image, plan: Move) -> Path:
    """Returns the target's path for an overlay that sees the directory of its base at another place than the caller does."""
    for link in lineage.links(overlay):
        home = Path(os.path.realpath(link.path)).parent if link.path else plan.source.parent
        if home != plan.source.parent and plan.target.parent == plan.source.parent and os.path.samefile(home, plan.target.parent):
            return home / plan.target.name
    return plan.target


def _require_free(plan: Move) -> None:
    """Raises `ImageInUse` if a file that must be changed or moved is in use, before anything has been done."""
    require_free((plan.image, *plan.overlays))


def _execute(
    plan: Move, lineage: Lineage, namings: Sequence[Naming], herd: Sequence[PathName], progress: Progress | None
) -> None:
    kept = holding_seals(lineage, plan.image)
    if is_there(plan.target):
        _make_earlier_run_durable(plan, lineage)
    with protection.renamed(plan.source, plan.target, key=plan.image.key):
        _name_own_base_from_everywhere(plan, lineage)
        give_name(plan.source, plan.target, progress)
        _copy_seal(plan)
        for overlay in plan.overlays:
            name_base(overlay, _as_seen_by(lineage, overlay, plan))
        redefine(namings, plan.target)
        _remove_old_seal(plan)
        require_free([plan.source])
        take_name(plan.source)
        _name_own_base_properly(plan, herd)
    _record(plan, kept, herd)


def _make_earlier_run_durable(plan: Move, lineage: Lineage) -> None:
    """Makes what a killed run wrote durable: overlays that it rewrote are not rewritten again, and their base's old name goes."""
    moved = lineage.known(plan.target)
    rewritten = [child.path for child in lineage.children(moved)] if moved else []
    make_durable(plan.source, plan.target, seal_path(plan.target), shadow_path(plan.target), *rewritten)


def _name_own_base_from_everywhere(plan: Move, lineage: Lineage) -> None:
    if plan.source.parent != plan.target.parent:
        name_base_absolutely(lineage, plan.image)


def _name_own_base_properly(plan: Move, herd: Sequence[PathName]) -> None:
    if not plan.image.backing or plan.source.parent == plan.target.parent:
        return
    lineage = _look_again(plan, herd)  # the image lies elsewhere now, and names its base differently
    image = lineage.find(plan.target)
    base = lineage.parent(image)
    if base:
        name_base(image, base.path)


def _look_again(plan: Move, herd: Sequence[PathName]) -> Lineage:
    return survey_around(plan.target, plan.source, *(overlay.path for overlay in plan.overlays), herd=herd)


def _copy_seal(plan: Move) -> None:
    """Puts the seal, unchanged, beside the new name; the shadow too, where that costs nothing."""
    own = sidecars(plan.source)
    old, new = seal_path(plan.source), seal_path(plan.target)
    if os.fspath(old) in own or is_kept(old):
        with HostFile.open(old, lock=None, follow=False) as file:
            atomic.write_atomically(new, file.pread(0, file.size()), mode=0o444, replaces=is_sealed(plan.target))
    if os.fspath(shadow_path(plan.source)) in own and not plan.copied_bytes:
        give_name(shadow_path(plan.source), shadow_path(plan.target))


def _remove_old_seal(plan: Move) -> None:
    old = seal_path(plan.source)
    for path in (*sidecars(plan.source), *([old] if is_kept(old) else ())):
        take_name(Path(path))
    forget_listing()


def _record(plan: Move, kept: Sequence[Kept], herd: Sequence[PathName]) -> None:
    """Records in the seals that held how their files are now."""
    after = _look_again(plan, herd)  # also where no seal held: this host then remembers where the moved image's overlays lie
    for seal in kept:
        moved = seal.image.key == plan.image.key
        image = after.known(plan.target) if moved else after.images.get(seal.image.key)
        if image:
            record, shadow = _with_shadow(plan, seal.record) if moved else (seal.record, None)
            record_files(after, image, record, seal.digests)
            if shadow:
                shadow.give_name(replaces=False)


def _with_shadow(plan: Move, record: SealRecord) -> tuple[SealRecord, NewShadow | None]:
    if record.shadow is None:
        return record, None
    there = shadow_of(plan.target, record)
    return (keep_shadow(record, there), None) if there else renew_shadow(plan.target, record)[:2]
