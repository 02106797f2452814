"""What beside an image is cowherd's own: a file is that by its content and by what it belongs to, never by its name.

An image may be called `web.seal`, `web.shadow` or `web.merge`; libvirt names an external snapshot so. And whoever may write in a
directory can put records there. So every command asks here before it believes, overwrites or removes what lies beside an image,
and before it takes away a protection (docs/reliability.md, "What is trusted").
"""

from __future__ import annotations

import errno
import os
import stat
import time

from cowherd.errors import HostFileError
from cowherd.herd.records.faults import NameTaken
from cowherd.storage.atomic import TEMPORARY_PREFIX
from cowherd.storage.presence import look_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.paths import PathName


SEAL_MAGIC = b"cowseal\n"
JOURNAL_MAGIC = b"cowmerge"
SHADOW_SUFFIX = ".shadow"

TRASH = ".cowherd-trash"
"""The directory that deleted images wait in; what lies there is no part of a herd."""


SETTLED_SECONDS = 3600
"""An unfinished file younger than this may belong to somebody who is at work."""

_UNFINISHED_DIGITS = 16
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
WRITE_BITS = stat.S_IWUSR | OTHERS_MAY_WRITE


def is_seal(path: PathName) -> bool:
    """Returns whether a file is a seal, be it damaged: it begins as one. One that may not be read counts: nobody has said no.

    Raises `HostFileError` where the host fails.
    """
    return _begins(path, SEAL_MAGIC) is not False


def is_proven_seal(path: PathName) -> bool:
    """Returns whether a file is certainly a seal. Raises as `is_seal`."""
    return _begins(path, SEAL_MAGIC) is True


def is_journal(path: PathName) -> bool:
    """Returns whether a file is the journal of a merge, be it damaged; as `is_seal`."""
    return _begins(path, JOURNAL_MAGIC) is not False


def _begins(path: PathName, magic: bytes) -> bool | None:
    """Returns whether `path` is a regular file, and no link, with these first bytes; None where that may not be read."""
    if not is_regular(path):
        return False
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.pread(fd, len(magic), 0) == magic
        finally:
            os.close(fd)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return None
        if error.errno == errno.ELOOP:  # a link since it was looked at
            return False
        raise HostFileError(path, "read", error) from error


def is_regular(path: PathName) -> bool:
    """Returns whether a name is that of a regular file, and no link. Raises `HostFileError` where the host fails."""
    info = look_up(path, follow=False)
    return info is not None and stat.S_ISREG(info.st_mode)


def is_unfinished_name(name: str) -> bool:
    """Returns whether a name is one that `storage.atomic.temporary_name` gives: of a file that nobody has finished yet."""
    digits = name.removeprefix(TEMPORARY_PREFIX)
    return len(digits) == _UNFINISHED_DIGITS and digits != name and set(digits) <= set("0123456789abcdef")


def is_forgotten(path: PathName) -> bool:
    """Returns whether an unfinished file has been left by a cowherd that was killed: regular, older than an hour, and of an owner
    who can have made it there: this user, root, or whose the directory is."""
    info = look_up(path, follow=False)
    around = look_up(os.path.dirname(path) or ".")
    if info is None or around is None or not is_unfinished_name(os.path.basename(path)):
        return False
    can_be_ours = stat.S_ISREG(info.st_mode) and info.st_uid in (0, os.geteuid(), around.st_uid)
    return can_be_ours and time.time() - info.st_mtime > SETTLED_SECONDS


def is_vouched_for(record: PathName, *owners: int) -> bool:
    """Returns whether nobody but this user, root and `owners` (user ids) can have written a record: it is theirs, and others may
    not write to it. Who only may write in the directory can put a record there, but none that belongs to these."""
    info = look_up(record, follow=False)
    if info is None or not stat.S_ISREG(info.st_mode) or info.st_mode & OTHERS_MAY_WRITE:
        return False
    return info.st_uid in (0, os.geteuid(), *owners)


def believed(record: SealRecord, image: os.stat_result, seal: PathName) -> SealRecord:
    """Returns a record as far as it is to be believed when it is written anew, by somebody whom others then believe.

    Where another than this user, root or the image's owner can have written `seal`, what it says of protection and modes is
    what can be seen.
    """
    from cowherd.storage.protection import Protection

    if is_vouched_for(seal, image.st_uid):
        return record
    now = stat.S_IMODE(image.st_mode) & (stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)
    seen = Protection.RECORDED if now & WRITE_BITS else Protection.READONLY
    writable = record.mode_before & stat.S_IWUSR if now & stat.S_IRWXU else 0
    return record._replace(level=min(record.level, seen), mode_before=now | writable, immutable_before=False)


def mode_given_back(now: int, record: SealRecord, image: os.stat_result, seal: PathName) -> int:
    """Returns the permission bits that an unsealed image gets, made of those that it has now.

    Nobody loses any. Who had none gets none; others get no write bit, and nobody setuid, setgid or sticky, whatever the record
    says. Where the file has not the mode that sealing left it, only its owner gets bits back; and of these only the write bit
    where somebody else may have written the record, or it is another file's.
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


def set_immutable(record: SealRecord, image: os.stat_result, seal: PathName) -> bool:
    """Returns whether it was cowherd that made an image immutable, as far as that is certain: its seal says that it did and that
    it was not so before, is this file's, and is root's or this user's."""
    from cowherd.storage.protection import Protection

    ours = record.level is Protection.IMMUTABLE and not record.immutable_before
    return ours and record.identity.inode == image.st_ino and is_vouched_for(seal)


def require_name_free(path: PathName, what: str, image: PathName) -> None:
    """Raises `NameTaken` if something has the name that a record of `image` is to have; `what` it is, as in "seal"."""
    if look_up(path, follow=False) is not None:
        raise NameTaken(path, what, image)
