"""The shadow of a sealed image: a reflink copy beside it, which costs no space and is the perfect donor.

The seal records the shadow's identity, and is written while the copy still has the name of an unfinished file: so a file with a
shadow's name always has a seal that proves it, whenever the process is killed.
"""

from __future__ import annotations

import os

from cowherd.errors import HostFileError
from cowherd.herd.records.faults import NameTaken
from cowherd.herd.records.ownership import require_name_free
from cowherd.herd.records.sidecars import is_shadow, is_shadow_of, shadow_path
from cowherd.paths import as_path
from cowherd.storage import copying, protection
from cowherd.storage.atomic import name_newcomer, sync_directory, temporary_name
from cowherd.storage.hostfile import HostFile
from cowherd.storage.identity import FileIdentity, make_lasting
from cowherd.storage.protection import Protection
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from cowherd.herd.records.sealrecord import SealRecord


class NewShadow(NamedTuple):
    """A complete copy of an image that does not have its name `path` yet."""

    unfinished: Path
    path: Path

    def recorded_in(self, record: SealRecord) -> SealRecord:
        """Returns the record with this shadow in it."""
        return record._replace(shadow=self.path.name, shadow_file=FileIdentity.of(self.unfinished))

    def give_name(self, *, replaces: bool) -> None:
        """Gives the copy its name, after the seal that records it was written. Raises `HostFileError`.

        `replaces`: an older shadow, which was proven to be one, has that name and is replaced.
        """
        try:
            if replaces:
                os.rename(self.unfinished, self.path)
                sync_directory(self.path.parent)
                return
        except HostFileError:
            raise
        except OSError as error:
            raise HostFileError(self.path, "replace", error) from error
        with HostFile.open(self.unfinished, lock=None, follow=False) as file:
            name_newcomer(file, self.path)


def copy_for_shadow(image: Path) -> NewShadow | None:
    """Makes a reflink copy of an image, under the name of an unfinished file; returns None if the file system has no reflinks.

    Raises `NameTaken` if another file has the shadow's name, `HostFileError`.
    """
    shadow = shadow_path(image)
    if not is_shadow(shadow):
        require_name_free(shadow, "shadow", image)
    unfinished = as_path(temporary_name(shadow))
    if not copying.clone_file(image, unfinished):
        return None
    protection.protect(unfinished, Protection.READONLY)
    make_lasting(unfinished)
    return NewShadow(unfinished, shadow)


def renew_shadow(image: Path, record: SealRecord) -> tuple[SealRecord, NewShadow | None, str | None]:
    """Makes a new shadow of an image. Returns the seal's record with it, the shadow, and None; or one without, None, and the
    reason.

    The caller gives the shadow its name after it has written that record. Raises `HostFileError`.
    """
    without = record._replace(shadow=None, shadow_file=None)
    try:
        new = copy_for_shadow(image)
    except NameTaken as error:
        return without, None, str(error)
    return (new.recorded_in(record), new, None) if new else (without, None, "the file system has no reflinks")


def keep_shadow(record: SealRecord, shadow: Path | None) -> SealRecord:
    """Returns the record with `shadow`, a file that was proven to be one, as it is now; with None, without a shadow."""
    if shadow is None:
        return record._replace(shadow=None, shadow_file=None)
    return record._replace(shadow=shadow.name, shadow_file=FileIdentity.of(shadow))


def shadow_of(image: Path, record: SealRecord | None) -> Path | None:
    """Returns the shadow that an image's seal records, if the file exists and is proven to be that shadow."""
    if record is None or record.shadow is None:
        return None
    shadow = shadow_path(image)
    return shadow if is_shadow_of(shadow, record) else None
