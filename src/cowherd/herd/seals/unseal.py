"""Taking away what a seal gave: its protection, during one write or for good, and the seal itself."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from cowherd.errors import HostFileError, ImageFormatError
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.requirements import require_seen
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.log import concerned
from cowherd.herd.records.faults import NotSealed, UnsealRefused
from cowherd.herd.records.ownership import believed, is_proven_seal, made_immutable_by_cowherd, mode_given_back
from cowherd.herd.records.sealplace import forget_listing, is_kept, seal_path
from cowherd.herd.records.sealrecord import SUFFIX
from cowherd.herd.records.sidecars import require_liftable, sidecars
from cowherd.herd.seals.quick_check import record_of
from cowherd.paths import path_names
from cowherd.storage import protection
from cowherd.storage.identity import make_lasting
from cowherd.storage.presence import is_there
from cowherd.storage.protection import Protection
from cowherd.storage.transfer import take_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.paths import PathName, PathNames

_NOTHING_TO_GIVE_UP = "there is no seal to give up"


def unseal(image: PathName, *, force: bool = False, herd: PathNames = ()) -> Path:
    """Gives up the seal of `image`, its shadow and its protection, and restores the mode that the file had before.

    Returns where the seal was. A protection that somebody else gave the file stays. An image that is gone can be unsealed too.
    Raises `NotSealed`, and, unless `force`, `UnsealRefused` while overlays in the herd depend on the image, and
    `ProtectedByOthers` where somebody else's protection keeps the mode from being restored.
    """
    herd = path_names(herd)
    if not is_there(image):
        return _drop_orphan(Path(image), force=force, herd=herd)
    lineage = survey_around(image, herd=herd)
    base = lineage.find(image)
    require_none(lineage, [base], "unseal")
    if base.seal is None:
        raise NotSealed(base.path, _NOTHING_TO_GIVE_UP)
    dependents = lineage.dependents(base)
    if dependents and not force:
        raise UnsealRefused(base.path, [dependent.path for dependent in dependents])
    if not force:
        require_seen(lineage, base, "unseal")
    concerned.note([base.filename])
    path = Path(base.seal)
    _restore_mode(base, force=force)
    _take_sidecars(path)
    return path


def _drop_orphan(image: Path, *, force: bool, herd: Sequence[PathName]) -> Path:
    """Gives up the seal of an image that is gone, unless an overlay waits for the content that it describes."""
    path = seal_path(image)
    if not is_there(path):
        raise HostFileError(image, "open", FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    if not is_proven_seal(path):
        raise NotSealed(image, _NOTHING_TO_GIVE_UP)
    if not force:
        _refuse_awaited(image, path, survey_around(image, herd=herd))
    _take_sidecars(path)
    return path


def _refuse_awaited(image: Path, seal: Path, lineage: Lineage) -> None:
    from cowherd.herd.lineage.awaited import Awaited, awaited_record

    waiting = Awaited(lineage).by(image, awaited_record(seal))
    if waiting:
        raise UnsealRefused(image, waiting)


def _take_sidecars(seal: Path) -> None:
    """Removes a seal, but first the shadow that it proves."""
    if is_kept(seal):
        take_name(seal)
        forget_listing()
        return
    for path in sidecars(os.fspath(seal).removesuffix(SUFFIX)):
        take_name(Path(path))


def _restore_mode(image: Image, *, force: bool) -> None:
    try:
        record = record_of(image)
    except ImageFormatError:
        if not force:
            raise
        return  # a damaged seal no longer says what the mode was
    if record and record.level > Protection.RECORDED and not _was_immutable(image, record):
        if not force:
            require_liftable(image.path, "take the protection from", seal=image.seal, forceable=True)
        lower(image, record)


@contextlib.contextmanager
def unprotected(image: Image) -> Iterator[None]:
    """Lifts the protection that cowherd gave a sealed image while the block writes to its file, and puts it back however that
    ends. A protection that somebody else gave stays.

    Raises `ProtectedByOthers` if nothing can be written because of that, as `record_of`, and `HostFileError`.
    """
    record = record_of(image)
    require_liftable(image.path, "write to", seal=image.seal)
    if record is None or record.level is Protection.RECORDED:
        yield
        return
    writable_before = bool(record.mode_before & stat.S_IWUSR)
    level = believed(record, os.stat(image.path), image.expected_seal).level
    with protection.written(image.path, level, image.key, owner_may_write=writable_before):
        yield


def _was_immutable(image: Image, record: SealRecord) -> bool:
    """Whether the file was immutable before it was sealed: sealing then changed nothing in its mode that could be given back."""
    return record.immutable_before and protection.is_immutable(image.path)


def lower(image: Image, record: SealRecord) -> None:
    """Removes, durably, the protection that cowherd gave, as far as it is certain that cowherd gave it."""
    info, seal = os.stat(image.path), image.expected_seal
    if protection.is_immutable(image.path) and not made_immutable_by_cowherd(record, info, seal):
        return
    protection.unprotect(image.path, lambda now: mode_given_back(now, record, info, seal), image.key)
    make_lasting(image.path)
