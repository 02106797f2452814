"""Decides which files beside an image are cowherd's own: their content and their owner decide it, never their name.

An image may be called `web.seal`, `web.shadow` or `web.merge`: libvirt gives external snapshots such names. And anybody who may
write in a directory can put records there. So every command asks this module before it trusts, overwrites or removes a file
beside an image, and before it lifts a protection (docs/reliability.md, "What is trusted").
"""

from __future__ import annotations

import errno
import os
import stat
import time

from cowherd.errors import HostFileError
from cowherd.herd.records.faults import NameTaken
from cowherd.paths import directory_of
from cowherd.storage.atomic import TEMPORARY_PREFIX
from cowherd.storage.presence import look_up
from cowherd.storage.reads import read_range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.paths import PathName


SEAL_MAGIC = b"cowseal\n"
JOURNAL_MAGIC = b"cowmerge"
SHADOW_SUFFIX = ".shadow"

TRASH = ".cowherd-trash"
"""Name of the directory that holds deleted images; they are not part of a herd."""


SETTLED_SECONDS = 3600
"""A process may still be at work on an unfinished file that is younger than this, in seconds."""

_UNFINISHED_DIGITS = 16
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
WRITE_BITS = stat.S_IWUSR | OTHERS_MAY_WRITE


def is_seal(path: PathName) -> bool:
    """Returns whether a file begins as a seal does, even a damaged one. A file that may not be read counts as a seal, to be safe.

    Raises `HostFileError` where the host fails.
    """
    return _begins_with(path, SEAL_MAGIC) is not False


def is_proven_seal(path: PathName) -> bool:
    """Returns whether a file was read and begins as a seal. Raises as `is_seal`."""
    return _begins_with(path, SEAL_MAGIC) is True


def is_journal(path: PathName) -> bool:
    """Returns whether a file begins as the journal of a merge, even a damaged one. Counts and raises as `is_seal`."""
    return _begins_with(path, JOURNAL_MAGIC) is not False


def _begins_with(path: PathName, magic: bytes) -> bool | None:
    """Returns whether `path` is a regular file, not a link, with these first bytes; None if this user may not read it."""
    if not is_regular(path):
        return False
    try:
        return first_bytes(path, len(magic)) == magic
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return None
        if error.errno == errno.ELOOP:  # a link took its place after the look-up above
            return False
        raise HostFileError(path, "read", error) from error


def first_bytes(path: PathName, length: int) -> bytes:
    """Returns so many bytes of the start of a file, or all that it has; of a link nothing is read. Raises OSError.

    A read that brings less is gone on with: on half of its first bytes a seal would be taken for none.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return read_range(fd, 0, length)
    finally:
        os.close(fd)


def is_regular(path: PathName) -> bool:
    """Returns whether `path` is a regular file, not a link. Raises `HostFileError` where the host fails."""
    info = look_up(path, follow=False)
    return info is not None and stat.S_ISREG(info.st_mode)


def is_unfinished_name(name: str) -> bool:
    """Returns whether `storage.atomic.temporary_name` gives such a name: that of a file which is not finished yet."""
    digits = name.removeprefix(TEMPORARY_PREFIX)
    return len(digits) == _UNFINISHED_DIGITS and digits != name and set(digits) <= set("0123456789abcdef")


def is_forgotten(path: PathName) -> bool:
    """Returns whether a cowherd that was killed left an unfinished file behind: it is regular, older than an hour, and belongs to
    somebody who can have made it there, which is this user, root, or the directory's owner."""
    info = look_up(path, follow=False)
    around = look_up(directory_of(path))
    if info is None or around is None or not is_unfinished_name(os.path.basename(path)):
        return False
    can_be_ours = stat.S_ISREG(info.st_mode) and info.st_uid in (0, os.geteuid(), around.st_uid)
    return can_be_ours and time.time() - info.st_mtime > SETTLED_SECONDS


def is_vouched_for(record: PathName, *owners: int) -> bool:
    """Returns whether only this user, root or `owners` (user ids) can have written a record: one of them owns it, and others may
    not write to it. Somebody who may only write in the directory can put a record there, but none that one of these owns."""
    info = look_up(record, follow=False)
    if info is None or not stat.S_ISREG(info.st_mode) or info.st_mode & OTHERS_MAY_WRITE:
        return False
    return info.st_uid in (0, os.geteuid(), *owners)


def believed(record: SealRecord, image: os.stat_result, seal: PathName) -> SealRecord:
    """Returns the part of a record that can be trusted, before it is written again under the name of a user whom others trust.

    If anybody but this user, root or the image's owner can have written `seal`, the protection and modes in the record are
    replaced by those that the image has now.
    """
    from cowherd.storage.protection import Protection

    if is_vouched_for(seal, image.st_uid):
        return record
    now = stat.S_IMODE(image.st_mode) & (stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)
    seen = Protection.RECORDED if now & WRITE_BITS else Protection.READONLY
    writable = record.mode_before & stat.S_IWUSR if now & stat.S_IRWXU else 0
    return record._replace(level=min(record.level, seen), mode_before=now | writable, immutable_before=False)


def mode_given_back(now: int, record: SealRecord, image: os.stat_result, seal: PathName) -> int:
    """Returns the permission bits for an image that is being unsealed, given its bits `now`.

    It takes no bit away. A class (owner, group, others) that has no bits now gets none. Whatever the record says, group and
    others get no write bit, and setuid, setgid and sticky are never set. If the file does not have the mode that sealing left,
    only its owner gets bits back; and only the write bit if the record may be somebody else's work, or belongs to another file.
    """
    before = record.mode_before
    if record.identity.inode != image.st_ino or not is_vouched_for(seal, image.st_uid):
        given = before & stat.S_IWUSR
    elif before & ~WRITE_BITS != stat.S_IMODE(image.st_mode):
        given = before & stat.S_IRWXU
    else:
        given = before & (stat.S_IRWXU | stat.S_IRWXG | stat.S_IROTH | stat.S_IXOTH)
    for who in (stat.S_IRWXU, stat.S_IRWXG, stat.S_IRWXO):
        if not now & who:
            given &= ~who
    return now | given


def made_immutable_by_cowherd(record: SealRecord, image: os.stat_result, seal: PathName) -> bool:
    """Returns whether cowherd certainly made an image immutable: its seal says so, and that the image was not immutable before;
    the seal is for this very file (inode), and root or this user owns it."""
    from cowherd.storage.protection import Protection

    ours = record.level is Protection.IMMUTABLE and not record.immutable_before
    return ours and record.identity.inode == image.st_ino and is_vouched_for(seal)


def require_name_free(path: PathName, what: str, image: PathName) -> None:
    """Raises `NameTaken` if a file has the name that a record of `image` needs. `what` names the record, as in "seal"."""
    if look_up(path, follow=False) is not None:
        raise NameTaken(path, what, image)
