"""A store in a directory: each blob is a file named by the BLAKE3 digest of its bytes.

    blobs/ab/cdef...        the bytes of blob abcdef..., read-only
    blobs/ab/cdef....seal   its seal, where its format has a content digest
    blobs/ab/cdef....sums   a digest of each MiB of it: see `cowherd.stores.sums`
    blobs/ab/cdef....about  JSON that tells people without the records what the blob is
    blobs/metadefs.json     what belongs to no blob, and is to be copied along with them
    incoming/               files that are still arriving
    locks/ab                locks of the blobs in blobs/ab, for the processes of this host

A blob has its name only once all its bytes are durable, and is not written to afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.progress import Progress
from cowherd.sizes import SECTOR
from cowherd.storage.atomic import NO_HARD_LINKS, sync_directory, write_atomically
from cowherd.storage.hostfile import Buffer, HostFile, naming_file
from cowherd.storage.presence import GONE, look_up
from cowherd.storage.space import fill_of, free_bytes
from cowherd.stores.checking import Pace, damaged_ranges
from cowherd.stores.faults import BlobMissing, StillArriving, SumsDamaged
from cowherd.stores.incoming import Incoming
from cowherd.stores.sums import Sums, decode

Kind = Literal["seal", "sums", "about"]
KINDS: tuple[Kind, ...] = ("seal", "sums", "about")
"""What may lie beside a blob."""
Note = Literal["metadefs"]
"""What may lie beside all of them."""

_BLOB_MODE = 0o440
_ARRIVING_MODE = 0o600
_DIRECTORY_MODE = 0o750
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FOLDER = re.compile(r"[0-9a-f]{2}")
_IN_FOLDER = re.compile(r"[0-9a-f]{62}")
_MOST_NOTE_BYTES = 64 << 20
_TEMPORARY = re.compile(r"[0-9a-f]{32}")


class Temporary(NamedTuple):
    """A file that is still arriving, or was left behind: its name, its bytes, its last change in seconds since 1970."""

    name: str
    size: int
    mtime: float


class DirectoryStore:
    """A store called `name` in `directory`. Its methods may be called from any thread, and by several processes of a host.

    A digest is given as 64 lower-case hexadecimal digits; anything else raises `InvalidRequest`. What the host refuses raises
    `HostFileError`.
    """

    def __init__(self, name: str, directory: str):
        self.name, self.directory = name, Path(directory)
        self._blobs, self._incoming, self._locks = (self.directory / part for part in ("blobs", "incoming", "locks"))

    def prepare(self) -> None:
        """Makes the folders of the store that are not there yet, durably."""
        for folder in (self.directory, self._blobs, self._incoming, self._locks):
            _make_folder(folder)

    def free_bytes(self) -> int:
        """Returns the bytes that this user may still use on the store's file system."""
        return free_bytes(self.directory)

    def fill(self) -> float:
        """Returns which part of the store's file system is taken, from 0 to 1."""
        return fill_of(self.directory)

    # What arrives

    def begin(self) -> Incoming:
        """Makes an empty file for bytes that arrive, under a name that nobody can guess."""
        name = os.urandom(16).hex()
        file = HostFile.create(self._incoming / name, exclusive=True, lock=None, mode=_ARRIVING_MODE)
        try:
            return self._held(name, file, 0)
        except BaseException:
            self.discard(name)
            raise

    def begin_linked(self, path: Path) -> Incoming | None:
        """Gives a file of this host a second name in the store (a hard link), as one that has arrived whole.

        Returns None if it can't be a blob like that: it lies on another file system, or this user may not change its permissions.
        """
        info = look_up(path, follow=False, absent=GONE)
        if info is None or not stat.S_ISREG(info.st_mode) or os.geteuid() not in (0, info.st_uid):
            return None
        name = os.urandom(16).hex()
        try:
            os.link(path, self._incoming / name, follow_symlinks=False)
        except OSError as error:
            if error.errno in (*NO_HARD_LINKS, errno.EXDEV, errno.EACCES):
                return None
            raise HostFileError(path, "link", error) from error
        try:
            return self.resume(name)
        except BaseException:
            self.discard(name)
            raise

    def resume(self, temporary: str, offset: int | None = None) -> Incoming:
        """Opens a file that began to arrive before, to go on at `offset`, by default at its end; what lies behind is cut off.

        Raises `StillArriving` while another holds it, `InvalidRequest` if the file is shorter than `offset`.
        """
        return self._held(temporary, HostFile.open(self._arriving(temporary), writable=True, lock=None, follow=False), offset)

    def _held(self, temporary: str, file: HostFile, offset: int | None) -> Incoming:
        """Takes a file over, with a lock on it that ends with the process at the latest."""
        try:
            if not _is_locked(file.fd):
                raise StillArriving(self.name, temporary)
            size = file.size()
            if offset is not None and offset > size:
                raise InvalidRequest(f"{offset} bytes are to have arrived, and the store has {size}")
            return Incoming(temporary, file, size if offset is None else offset)
        except BaseException:
            file.close()
            raise

    def is_held(self, temporary: str) -> bool:
        """Returns whether somebody still appends to a file: if nobody does, it was left behind, or waits to be resumed."""
        try:
            with HostFile.open(self._arriving(temporary), lock=None, follow=False) as file:
                return not _is_locked(file.fd)
        except HostFileError as error:
            if error.errno not in GONE:
                raise
            return False

    def arriving(self, temporary: str) -> Path:
        """Returns the path of a file that is still arriving, for who inspects it."""
        return self._arriving(temporary)

    def incoming(self) -> list[Temporary]:
        """Returns the files that are still arriving, and those that were left behind."""
        found = []
        with naming_file(self._incoming, "look into"), os.scandir(self._incoming) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # it became a blob, or was discarded, since it was listed
                    info = entry.stat(follow_symlinks=False)
                    found.append(Temporary(entry.name, info.st_size, info.st_mtime))
        return sorted(found)

    def arrived(self, temporary: str) -> Temporary | None:
        """Returns how much of a file has arrived, None if it is not there any more."""
        info = look_up(self._arriving(temporary), follow=False, absent=GONE)
        return None if info is None else Temporary(temporary, info.st_size, info.st_mtime)

    def discard(self, temporary: str) -> None:
        """Deletes a file that was arriving; does nothing if it is not there any more."""
        _delete(self._arriving(temporary))

    def adopt(self, temporary: str, digest: str, *, replaces: bool = False) -> bool:
        """Makes a file that has arrived the blob `digest`, durably; the caller vouches for its digest, and holds `locked`.

        If the store has a blob of that name and length already, that one stays, unless `replaces`, and so does the new file: the
        caller discards it when the records name the blob. Returns whether the new file is the blob now. After an error the
        temporary file may be there or not, and the blob is there whole or as it was before.
        """
        source, target = self._arriving(temporary), self.path(digest)
        _make_folder(target.parent)
        with HostFile.open(source, writable=True, lock=None, follow=False) as file:
            known = look_up(target, follow=False, absent=GONE)
            new = replaces or known is None or known.st_size != file.size()
            if new:
                with naming_file(source, "set the permissions of"):
                    os.fchmod(file.fd, _BLOB_MODE)
                file.flush(whole=True)
                with naming_file(target, "create"):
                    os.rename(source, target)
        sync_directory(target.parent)  # also for a blob that was there: whoever adopted it may have been killed just before
        sync_directory(self._incoming)
        return new

    # Blobs

    @contextlib.contextmanager
    def locked(self, digest: str) -> Iterator[None]:
        """Keeps other threads and processes of this host out of this method for the blob, and for others, while the block runs.

        Who adopts a blob holds it until the records name it; who removes one, from the moment at which the records stop naming
        it. Otherwise a blob could vanish that was just found to be there. A transaction begins inside, never around it.
        """
        path = self._locks / self.path(digest).parent.name
        with naming_file(path, "lock"):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with naming_file(path, "lock"):
                fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)  # a child that was forked meanwhile has the descriptor too, and keeps it
        finally:
            os.close(fd)

    def path(self, digest: str) -> Path:
        """Returns the path that a blob has, whether it is there or not."""
        if not _DIGEST.fullmatch(digest):
            raise InvalidRequest(f"{digest!a} is no BLAKE3 digest: 64 of 0-9 and a-f")
        return self._blobs / digest[:2] / digest[2:]

    def open(self, digest: str) -> int:
        """Returns a descriptor of a blob, open for reading, which the caller closes. Raises `BlobMissing`."""
        path = self.path(digest)
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in GONE:
                raise BlobMissing(self.name, digest) from error
            raise HostFileError(path, "open", error) from error

    def size(self, digest: str) -> int:
        """Returns the bytes of a blob. Raises `BlobMissing`."""
        return self._info(digest).st_size

    def allocated(self, digest: str) -> int:
        """Returns the bytes that a blob takes on the disk: holes take none. Raises `BlobMissing`."""
        return self._info(digest).st_blocks * SECTOR

    def _info(self, digest: str) -> os.stat_result:
        info = look_up(self.path(digest), follow=False, absent=GONE)
        if info is None:
            raise BlobMissing(self.name, digest)
        return info

    def digests(self) -> Iterator[str]:
        """Yields the digests of all blobs, in order."""
        for folder in _names(self._blobs, _FOLDER):
            for rest in _names(self._blobs / folder, _IN_FOLDER):
                yield folder + rest

    def remove(self, digest: str) -> None:
        """Deletes a blob and what lies beside it, durably; what is not there is no error. The caller holds `locked`.

        The blob goes last, so that a run that is killed leaves one that can be found and removed again.
        """
        path = self.path(digest)
        if look_up(path.parent, absent=GONE) is None:
            return
        for kind in KINDS:
            _delete(self.beside(digest, kind))
        _delete(path)
        sync_directory(path.parent)

    def put_back(self, digest: str, temporary: str) -> bool:
        """Makes a blob that no record names the file again that arrived as it, durably; the caller holds `locked`.

        Returns False if there is no such blob.
        """
        path, target = self.path(digest), self._arriving(temporary)
        if look_up(path, follow=False, absent=GONE) is None:
            return False
        for kind in KINDS:
            _delete(self.beside(digest, kind))
        with naming_file(path, "rename"):
            os.chmod(path, _ARRIVING_MODE)
            os.rename(path, target)
        sync_directory(path.parent)
        sync_directory(self._incoming)
        return True

    def write_beside(self, digest: str, kind: Kind, data: Buffer) -> None:
        """Writes what lies beside a blob, whole and durably, in place of what lay there."""
        write_atomically(self.beside(digest, kind), data, _BLOB_MODE)

    def delete_beside(self, digest: str, kind: Kind) -> None:
        """Deletes what lies beside a blob; does nothing if nothing of that kind does."""
        _delete(self.beside(digest, kind))

    def read_beside(self, digest: str, kind: Kind) -> bytes | None:
        """Returns what lies beside a blob, None if nothing of that kind does."""
        path = self.beside(digest, kind)
        if look_up(path, follow=False, absent=GONE) is None:
            return None
        with HostFile.open(path, lock=None, follow=False) as file:
            return file.pread(0, file.size())

    def verify(
        self, digest: str, *, start: int = 0, end: int | None = None, rate: float | None = None, progress: Progress | None = None
    ) -> tuple[tuple[int, int], ...]:
        """Reads a blob and returns the (start, end) ranges of it that are not as they were, whole MiB, joined where they touch.

        `start` and `end` keep it to the pieces that a range touches. `rate` bounds the bytes read in a second. A range that the
        disk can't read is damaged, and so is what is missing or too much at the end. Without usable sums the blob as a whole is
        compared with its name. `progress(done, total)` counts bytes; what it raises ends the reading. Raises `BlobMissing`.
        """
        fd = self.open(digest)
        with HostFile(str(self.path(digest)), fd, writable=False) as file:
            return damaged_ranges(file, digest, self._sums_or_none(digest), start, end, Pace(rate, progress))

    def sums(self, digest: str) -> Sums | None:
        """Returns the sums of a blob, None if there are none. Raises `SumsDamaged`."""
        data = self.read_beside(digest, "sums")
        return None if data is None else decode(data, digest)

    def _sums_or_none(self, digest: str) -> Sums | None:
        try:
            return self.sums(digest)
        except SumsDamaged:
            return None

    def beside(self, digest: str, kind: Kind) -> Path:
        """Returns the path of what may lie beside a blob."""
        path = self.path(digest)
        return path.with_name(f"{path.name}.{kind}")

    def write_note(self, kind: Note, data: Buffer) -> None:
        """Writes what lies beside all blobs, whole and durably, in place of what lay there."""
        write_atomically(self.note(kind), data, _BLOB_MODE)

    def read_note(self, kind: Note) -> bytes | None:
        """Returns what lies beside all blobs, None if nothing of that kind does; a note that is far too large is cut off."""
        path = self.note(kind)
        if look_up(path, follow=False, absent=GONE) is None:
            return None
        with HostFile.open(path, lock=None, follow=False) as file:
            return file.pread(0, min(file.size(), _MOST_NOTE_BYTES))

    def note(self, kind: Note) -> Path:
        """Returns the path of what may lie beside all blobs."""
        return self._blobs / f"{kind}.json"

    def _arriving(self, temporary: str) -> Path:
        if not _TEMPORARY.fullmatch(temporary):
            raise InvalidRequest(f"{temporary!a} is not the name of a file that is arriving")
        return self._incoming / temporary


def _is_locked(fd: int) -> bool:
    """Locks an open file; returns whether that was possible. The lock ends when nobody has this descriptor any more."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_folder(folder: Path) -> None:
    """Makes a folder if it is not there. It is durable then, even if a run that made it was killed before it was."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, _DIRECTORY_MODE)
    except OSError as error:
        raise HostFileError(folder, "make the directory", error) from error
    sync_directory(folder.parent)


def _delete(path: Path) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostFileError(path, "delete", error) from error


def _names(folder: Path, form: re.Pattern[str]) -> list[str]:
    """Returns the names of that form in a folder, in order."""
    with naming_file(folder, "look into"):
        return sorted(name for name in os.listdir(folder) if form.fullmatch(name))
