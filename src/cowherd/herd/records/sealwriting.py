"""Writing a seal: in one step, readable by whoever may read its image, and never over another file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import zlib

from cowherd.errors import HostFileError, ImageFormatError
from cowherd.herd.records.ownership import SEAL_MAGIC, is_seal, require_name_free
from cowherd.herd.records.place import Place, covers, with_places
from cowherd.herd.records.sealfile import PREFIX, VERSION, SealReader, read_record
from cowherd.herd.records.sealplace import CANT_WRITE, is_kept, look_again
from cowherd.herd.records.sealrecord import SUFFIX, SealRecord, record_to_json
from cowherd.paths import lies_in
from cowherd.storage import atomic
from cowherd.storage.hostfile import HostFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cowherd.herd.records.digest import BlockDigests
    from cowherd.paths import PathName
    from cowherd.storage.hostfile import Buffer

_OWNER_READS = 0o400


def write_seal(path: PathName, record: SealRecord, digests: BlockDigests) -> None:
    """Writes a seal in one step: after a crash either the old one or the new one is there. It takes no other
    file's name (`NameTaken`). Raises `HostFileError`.

    What the old one knows of places with overlays, the new one knows too.
    """
    counts = len(digests.runs), len(digests.digests)
    with _alone_beside(path):
        places = with_places(record.places, _places_in(path, record.seal_id))
        _write(path, record._replace(places=places), counts, [digests.runs.astype("<i8").tobytes(), digests.digests.tobytes()])


def add_places(path: PathName, places: Iterable[Place]) -> bool:
    """Has a seal remember where overlays of its image are; returns whether it does now.

    It does not where it can't be written to, or knows too many. Raises `ImageFormatError` if it is damaged, `HostFileError`.
    """
    new = tuple(places)
    if set(new) <= set(read_record(path).places):
        return True
    with _alone_beside(path):
        with HostFile.open(path, lock=None) as file:
            reader = SealReader(file)
            record, data = reader.checked()
        record = record._replace(places=with_places(record.places, new))
        try:
            _write(path, record, (reader.run_count, reader.digest_count), [memoryview(data)[reader.body : reader.end]])
        except HostFileError as error:
            if error.errno not in CANT_WRITE:
                raise
            return False
    return all(any(covers(known, one) for known in record.places) for one in new)


def without_places(path: PathName, directory: str) -> int:
    """Has a seal forget the places in and under a directory; returns how many that were. Raises as `add_places`."""
    with _alone_beside(path):
        with HostFile.open(path, lock=None) as file:
            reader = SealReader(file)
            record, data = reader.checked()
        kept = tuple(place for place in record.places if not lies_in(place.directory, directory))
        if len(kept) < len(record.places):
            body: list[Buffer] = [memoryview(data)[reader.body : reader.end]]
            _write(path, record._replace(places=kept), (reader.run_count, reader.digest_count), body)
    return len(record.places) - len(kept)


def _write(path: PathName, record: SealRecord, counts: tuple[int, int], body: list[Buffer]) -> None:
    from blake3 import blake3

    if record.kept_for and not is_kept(path):  # it was brought back beside its image
        record = record._replace(kept_for=None)
    text = json.dumps(record_to_json(record), sort_keys=True, separators=(",", ":")).encode("ascii")
    prefix = PREFIX.pack(SEAL_MAGIC, VERSION, len(text), zlib.crc32(text), *counts)
    checksum = blake3()
    for buffer in (prefix, text, *body):
        checksum.update(buffer)
    buffers = [prefix, text, *body, checksum.digest()]
    image = record.kept_for.path if record.kept_for else os.fspath(path).removesuffix(SUFFIX)
    try:
        _put(path, buffers, image, replaces=is_seal(path))
    except HostFileError as error:
        if error.errno != errno.EEXIST:
            raise
        if not is_seal(path):
            require_name_free(path, "seal", image)
            raise
        _put(path, buffers, image, replaces=True)  # somebody has sealed the same image meanwhile
    if record.kept_for:
        look_again()


def _put(path: PathName, buffers: list[Buffer], image: str, *, replaces: bool) -> None:
    with atomic.replacement(path, _OWNER_READS, replaces=replaces) as file:
        _let_read(file, image)
        file.pwritev(0, buffers)


def _let_read(seal: HostFile, image: str) -> None:
    """Has those read a new seal who may read its image, and nobody else: its digests tell of the content. Nobody writes to it."""
    try:
        info = os.stat(image)
    except OSError:
        return  # the image is gone: nobody knows any more who might read it
    readers = info.st_mode & 0o044
    try:
        os.fchown(seal.fd, -1, info.st_gid)
    except OSError:  # only root, and members of the group, give a file to a group
        readers &= 0o004
    os.fchmod(seal.fd, _OWNER_READS | readers)


@contextlib.contextmanager
def _alone_beside(path: PathName) -> Iterator[None]:
    """Keeps other processes of this host from replacing a seal in the same directory while the block runs.

    Where a directory can't be locked (NFS) two at once may lose a place, which the host's memory knows too.
    """
    try:
        fd = os.open(os.path.dirname(os.fspath(path)) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostFileError(path, "write", error) from error
    try:
        with contextlib.suppress(OSError):  # as said above
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _places_in(path: PathName, seal_id: bytes) -> tuple[Place, ...]:
    """Returns the places that the seal about to be replaced knows, none if that is no seal of the same image, or damaged."""
    try:
        record = read_record(path)
    except (ImageFormatError, HostFileError):
        return ()
    return record.places if record.seal_id == seal_id else ()
