"""Writes seals: in one step, readable by the users who may read the image, and never over a file that is no seal."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import zlib

from cowherd.errors import HostFileError, ImageFormatError
from cowherd.herd.records.block import DIGEST_BYTES
from cowherd.herd.records.ownership import SEAL_MAGIC, is_seal, require_name_free
from cowherd.herd.records.place import Place, covers, with_places
from cowherd.herd.records.sealfile import PREFIX, VERSION, SealReader, read_record
from cowherd.herd.records.sealplace import CANT_WRITE, forget_listing, is_kept
from cowherd.herd.records.sealrecord import SUFFIX, SealRecord, record_to_json
from cowherd.jsontext import write_json
from cowherd.paths import directory_of, lies_in
from cowherd.storage import atomic
from cowherd.storage.hostfile import HostFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cowherd.herd.records.digest import BlockDigests
    from cowherd.herd.records.digest_rows import Content
    from cowherd.paths import PathName
    from cowherd.storage.hostfile import Buffer

_OWNER_READS = 0o400


def write_seal(path: PathName, record: SealRecord, digests: BlockDigests) -> None:
    """Writes a seal in one step: after a crash there is either the old one or the new one.

    The new one keeps the places with overlays that the old one knows. Raises `NameTaken` if another file has the seal's name,
    `HostFileError`.
    """
    counts = len(digests.runs), len(digests.digests)
    _write_with_places(path, record, counts, [digests.runs.astype("<i8").tobytes(), digests.digests.tobytes()])


def write_seal_of(path: PathName, record: SealRecord, content: Content) -> None:
    """Does what `write_seal` does, for content that is not held as arrays."""
    counts = len(content.runs) // 2, len(content.digests) // DIGEST_BYTES
    _write_with_places(path, record, counts, [content.little_endian_runs(), content.digests])


def _write_with_places(path: PathName, record: SealRecord, counts: tuple[int, int], body: list[Buffer]) -> None:
    with _lock_directory_of(path):
        places = with_places(record.places, _places_in(path, record.seal_id))
        _write(path, record._replace(places=places), counts, body)


def add_places(path: PathName, places: Iterable[Place]) -> bool:
    """Adds places in which overlays of its image lie to a seal; returns whether the seal has them all now.

    It has not if this user may not write it, or it holds too many. Raises `ImageFormatError` if it is damaged, `HostFileError`.
    """
    new = tuple(places)
    if set(new) <= set(read_record(path).places):
        return True
    with _lock_directory_of(path):
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


def forget_places(path: PathName, directory: str) -> int:
    """Removes the places in and under `directory` from a seal; returns how many. Raises as `add_places`."""
    with _lock_directory_of(path):
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

    if record.kept_for and not is_kept(path):  # a kept seal that is written beside its image from now on
        record = record._replace(kept_for=None)
    text = write_json(record_to_json(record), sort_keys=True).encode("ascii")
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
        _put(path, buffers, image, replaces=True)  # another process sealed the same image in between
    if record.kept_for:
        forget_listing()


def _put(path: PathName, buffers: list[Buffer], image: str, *, replaces: bool) -> None:
    with atomic.replacement(path, _OWNER_READS, replaces=replaces) as file:
        _allow_readers_of_image(file, image)
        file.pwritev(0, buffers)


def _allow_readers_of_image(seal: HostFile, image: str) -> None:
    """Lets exactly the readers of an image read its new seal, whose digests reveal content. Nobody gets to write it."""
    try:
        info = os.stat(image)
    except OSError:
        return  # the image is gone, and with it who might read it: only the owner may
    readers = info.st_mode & 0o044
    try:
        os.fchown(seal.fd, -1, info.st_gid)
    except OSError:  # only root and members of a group may give a file to the group
        readers &= 0o004
    os.fchmod(seal.fd, _OWNER_READS | readers)


@contextlib.contextmanager
def _lock_directory_of(path: PathName) -> Iterator[None]:
    """Locks the directory of a seal, so that no other process of this host replaces a seal in it while the block runs.

    Where a directory can't be locked (NFS), two writers at once may lose a place; the herd book of the host has it too.
    """
    try:
        fd = os.open(directory_of(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostFileError(path, "write", error) from error
    try:
        with contextlib.suppress(OSError):  # as said above
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _places_in(path: PathName, seal_id: bytes) -> tuple[Place, ...]:
    """Returns the places in the seal that is about to be replaced; none if it is damaged, or the seal of another image."""
    try:
        record = read_record(path)
    except (ImageFormatError, HostFileError):
        return ()
    return record.places if record.seal_id == seal_id else ()
