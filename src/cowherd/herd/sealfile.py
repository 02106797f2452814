"""The file that holds a seal, `NAME.seal` beside the image NAME.

All numbers are little-endian:

    offset  bytes  what
    0       8      magic "cowseal\\n"
    8       4      version, 1
    12      4      length of the record in bytes
    16      4      CRC-32 of the record
    20      4      zero
    24      8      number of runs
    32      8      number of digests
    40             the record, a JSON object (see `SealRecord`)
                   for each run of blocks that are not zeros: first block, block after the last (8 bytes each)
                   for each block of those runs: its BLAKE3 digest (32 bytes)
                   BLAKE3 digest of everything before (32 bytes)

The CRC lets the record be used alone: verifying by identity reads nothing else and needs no numpy.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import struct
import zlib

from cowherd.errors import HostFileError, ImageFormatError
from cowherd.paths import as_path
from cowherd.storage import atomic
from cowherd.storage.hostfile import HostFile
from cowherd.storage.identity import FileIdentity
from cowherd.storage.presence import is_there
from cowherd.storage.protection import Protection
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Any

    from cowherd.herd.digest import BlockDigests
    from cowherd.storage.hostfile import Buffer

SUFFIX = ".seal"
SHADOW_SUFFIX = ".shadow"
BLOCK_SIZE = 65536

_MAGIC = b"cowseal\n"
_VERSION = 1
_PREFIX = struct.Struct("<8sIII4xQQ")
_MAX_RECORD = 8 << 20
_MAX_SIZE = (1 << 63) - BLOCK_SIZE
_MAX_CHAIN = 1000
_MOST_PLACES = 1024
_CROWD = 32  # places in one directory, above which the directory itself is named
_DIGEST = 32
_OWNER_READS = 0o400
_RUN = 16


class ChainFile(NamedTuple):
    """A backing file that the sealed content was read through: its name then, its identity, and its own seal's content digest."""

    name: str
    identity: FileIdentity
    content_digest: bytes | None
    atime_ns: int | None = None


class Place(NamedTuple):
    """A directory in which overlays of a sealed image lay, and where its file system was mounted, both absolute.

    `relative` leads there from the image's own directory where the two move together, None elsewhere. `below`: it is the parent
    of very many such directories, named in their place.
    """

    directory: str
    mount: str
    relative: str | None = None
    below: bool = False


class Signature(NamedTuple):
    """Who vouches for a seal: an Ed25519 public key (32 bytes) and its signature (64 bytes); see `cowherd.herd.signing`."""

    public_key: bytes
    value: bytes


class SealRecord(NamedTuple):
    """What a seal says apart from the digests of the blocks.

    `seal_id` (16 bytes) names the seal and stays the same when the image is sealed anew, `generation` counts from 1.
    `chain` lists the files below the image, nearest first. `mode_before` is the file mode to go back to. `places` are where
    overlays of it were made or seen, which is no part of what is signed. `atime_ns` is when the file was last read then, by which
    times that were set by hand are told (None in older seals). `certain`: the clock had ticked when the identities were recorded.
    """

    seal_id: bytes
    generation: int
    content_digest: bytes
    size: int
    format: str
    identity: FileIdentity
    chain: tuple[ChainFile, ...]
    level: Protection
    mode_before: int
    shadow: str | None
    created: str
    made_by: str
    signature: Signature | None = None
    places: tuple[Place, ...] = ()
    atime_ns: int | None = None
    certain: bool = True


def seal_name(image: str | os.PathLike[str]) -> str:
    """Returns where the seal of `image` is: beside the file that the name leads to, past symbolic links."""
    return os.path.realpath(image) + SUFFIX


def seal_path(image: str | os.PathLike[str]) -> Path:
    """Returns the same as a path."""
    return as_path(seal_name(image))


def is_sealed(image: str | os.PathLike[str]) -> bool:
    """Returns whether a seal lies beside `image`."""
    return is_there(seal_name(image))


def write_seal(path: str | os.PathLike[str], record: SealRecord, digests: BlockDigests) -> None:
    """Writes a seal in one step: after a crash either the old one or the new one is there. Raises `HostFileError`.

    What the old one knows of places with overlays, the new one knows too.
    """
    counts = len(digests.runs), len(digests.digests)
    with _alone_beside(path):
        places = _with_places(record.places, _places_in(path, record.seal_id))
        _write(path, record._replace(places=places), counts, [digests.runs.astype("<i8").tobytes(), digests.digests.tobytes()])


def add_places(path: str | os.PathLike[str], places: Iterable[Place]) -> bool:
    """Has a seal remember where overlays of its image are; returns whether it does now.

    It does not where it can't be written to, or knows too many. Raises `ImageFormatError` if it is damaged, `HostFileError`.
    """
    new = tuple(places)
    if set(new) <= set(read_record(path).places):
        return True
    with _alone_beside(path):
        with HostFile.open(path, lock=None) as file:
            reader = _Reader(file)
            record, data = reader.checked()
        record = record._replace(places=_with_places(record.places, new))
        try:
            _write(path, record, (reader.run_count, reader.digest_count), [memoryview(data)[reader.body : reader.end]])
        except HostFileError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return False
    return all(any(_covers(known, one) for known in record.places) for one in new)


def without_places(path: str | os.PathLike[str], directory: str) -> int:
    """Has a seal forget the places in and under a directory; returns how many that were. Raises as `add_places`."""
    with _alone_beside(path):
        with HostFile.open(path, lock=None) as file:
            reader = _Reader(file)
            record, data = reader.checked()
        kept = tuple(place for place in record.places if not f"{place.directory}/".startswith(f"{directory.rstrip('/')}/"))
        if len(kept) < len(record.places):
            body: list[Buffer] = [memoryview(data)[reader.body : reader.end]]
            _write(path, record._replace(places=kept), (reader.run_count, reader.digest_count), body)
    return len(record.places) - len(kept)


def _write(path: str | os.PathLike[str], record: SealRecord, counts: tuple[int, int], body: list[Buffer]) -> None:
    from blake3 import blake3

    text = json.dumps(record_to_json(record), sort_keys=True, separators=(",", ":")).encode("ascii")
    prefix = _PREFIX.pack(_MAGIC, _VERSION, len(text), zlib.crc32(text), *counts)
    checksum = blake3()
    for buffer in (prefix, text, *body):
        checksum.update(buffer)
    with atomic.replacement(path, _OWNER_READS) as file:
        _let_read(file, os.fspath(path).removesuffix(SUFFIX))
        file.pwritev(0, [prefix, text, *body, checksum.digest()])


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
def _alone_beside(path: str | os.PathLike[str]) -> Iterator[None]:
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


def _places_in(path: str | os.PathLike[str], seal_id: bytes) -> tuple[Place, ...]:
    """Returns the places that the seal about to be replaced knows, none if that is no seal of the same image, or damaged."""
    try:
        record = read_record(path)
    except (ImageFormatError, HostFileError):
        return ()
    return record.places if record.seal_id == seal_id else ()


def _with_places(known: tuple[Place, ...], new: Iterable[Place]) -> tuple[Place, ...]:
    """Returns places without repetition; of very many in one directory that directory stands for all."""
    places = list(known)
    for place in new:
        if any(_covers(other, place) for other in places):
            continue
        parent = os.path.dirname(place.directory)
        beside = [other for other in places if os.path.dirname(other.directory) == parent and not other.below]
        if len(beside) >= _CROWD:
            relative = None if place.relative is None else os.path.dirname(place.relative) or "."
            places = [other for other in places if other not in beside]
            place = Place(parent, place.mount, relative, below=True)
        places.append(place)
    return tuple(places[:_MOST_PLACES])


def _covers(known: Place, place: Place) -> bool:
    directory = os.path.dirname(place.directory) if known.below else place.directory
    return known.directory == directory and known.relative == (
        os.path.dirname(place.relative) or "." if known.below and place.relative is not None else place.relative
    )


def read_record(path: str | os.PathLike[str]) -> SealRecord:
    """Reads the record of a seal. Raises `ImageFormatError` if it is damaged, `HostFileError` if it can't be read."""
    with HostFile.open(path, lock=None) as file:
        return _Reader(file).record()


def read_digests(path: str | os.PathLike[str]) -> tuple[SealRecord, BlockDigests]:
    """Reads a whole seal and checks it: its checksum, its runs, and that its content digest is that of its blocks.

    Raises `ImageFormatError` if it is damaged, `HostFileError` if it can't be read.
    """
    with HostFile.open(path, lock=None) as file:
        return _Reader(file).everything()


def check_seal(path: str | os.PathLike[str]) -> SealRecord:
    """Does the same without numpy, and returns the record alone. Raises as `read_digests`."""
    with HostFile.open(path, lock=None) as file:
        return _Reader(file).checked()[0]


class _Reader:
    def __init__(self, file: HostFile):
        self.file = file
        if file.size() < _PREFIX.size:
            raise self._damaged("it is too short to be a seal")
        magic, version, self.length, self.crc, self.run_count, self.digest_count = _PREFIX.unpack(file.pread(0, _PREFIX.size))
        if magic != _MAGIC:
            raise self._damaged("it is not a seal")
        if version != _VERSION:
            raise self._damaged(f"it has version {version}; this cowherd knows version {_VERSION}")
        if self.length > _MAX_RECORD:
            raise self._damaged("its record is too long")
        self.body = _PREFIX.size + self.length
        self.end = self.body + self.run_count * _RUN + self.digest_count * _DIGEST
        if file.size() != self.end + _DIGEST:
            raise self._damaged("it is cut short, or longer than it says")

    def record(self) -> SealRecord:
        text = self.file.pread(_PREFIX.size, self.length)
        if zlib.crc32(text) != self.crc:
            raise self._damaged("the checksum of its record is wrong")
        try:
            return record_from_json(json.loads(text))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._damaged(f"its record makes no sense ({type(error).__name__}: {error})") from error

    def checked(self) -> tuple[SealRecord, bytes]:
        """Returns the record and the whole file, in which runs and digests are sound."""
        from blake3 import blake3

        from cowherd.herd.content import content_digest

        data = self.file.pread(0, self.end + _DIGEST)
        view = memoryview(data)
        if blake3(view[: self.end]).digest() != data[self.end :]:
            raise self._damaged("its checksum is wrong")
        record = self.record()
        self._check_runs(struct.iter_unpack("<qq", view[self.body : self.body + self.run_count * _RUN]), record.size)
        if content_digest(record.size, self.run_count, view[self.body : self.end]) != record.content_digest:
            raise self._damaged("its content digest is not that of its blocks")
        return record, data

    def everything(self) -> tuple[SealRecord, BlockDigests]:
        import numpy as np

        from cowherd.herd.digest import BlockDigests

        record, data = self.checked()
        runs = np.frombuffer(data, "<i8", self.run_count * 2, self.body).reshape(-1, 2).astype(np.int64)
        rows = np.frombuffer(data, np.uint8, self.digest_count * _DIGEST, self.body + self.run_count * _RUN)
        return record, BlockDigests(record.size, runs, rows.reshape(-1, _DIGEST))

    def _check_runs(self, runs: Iterable[tuple[int, int]], size: int) -> None:
        position, blocks = -1, 0
        for first, end in runs:
            if not position < first < end:
                raise self._damaged("its runs are out of order")
            position, blocks = end, blocks + end - first
        if position * BLOCK_SIZE >= size + BLOCK_SIZE or blocks != self.digest_count:
            raise self._damaged("its runs do not fit its size or its digests")

    def _damaged(self, problem: str) -> ImageFormatError:
        return ImageFormatError(self.file.name, f"the seal can't be used: {problem}")


def record_to_json(record: SealRecord) -> dict[str, Any]:
    """Returns a record as JSON can hold it."""
    return {
        "seal_id": record.seal_id.hex(),
        "generation": record.generation,
        "content_digest": record.content_digest.hex(),
        "size": record.size,
        "block_size": BLOCK_SIZE,
        "format": record.format,
        "file": _file_to_json(record.identity, record.atime_ns),
        "chain": [_chain_to_json(file) for file in record.chain],
        "level": record.level.name,
        "mode_before": record.mode_before,
        "shadow": record.shadow,
        "created": record.created,
        "made_by": record.made_by,
        **_signature_to_json(record.signature),
        **({"places": [list(place) for place in record.places]} if record.places else {}),
        **({} if record.certain else {"certain": False}),
    }


def _file_to_json(identity: FileIdentity, atime_ns: int | None) -> dict[str, int]:
    return {**identity.to_dict(), **({} if atime_ns is None else {"atime_ns": atime_ns})}


def _atime_from_json(fields: dict[str, object]) -> int | None:
    value = fields.get("atime_ns")
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"{value!r} is not a time")
    return value


def _signature_to_json(signature: Signature | None) -> dict[str, Any]:
    return {"signature": {"key": signature.public_key.hex(), "value": signature.value.hex()}} if signature else {}


def _signature_from_json(fields: dict[str, object] | None) -> Signature | None:
    return None if fields is None else Signature(_digest(fields["key"], 32), _digest(fields["value"], 64))


def _chain_to_json(file: ChainFile) -> dict[str, Any]:
    digest = file.content_digest.hex() if file.content_digest else None
    return {"name": file.name, "file": _file_to_json(file.identity, file.atime_ns), "content_digest": digest}


def record_from_json(fields: dict[str, Any]) -> SealRecord:
    """Reads what `record_to_json` gave. Raises ValueError, KeyError or TypeError where it makes no sense."""
    if _whole(fields["block_size"], BLOCK_SIZE) != BLOCK_SIZE:
        raise ValueError(f"blocks of {fields['block_size']} bytes")
    if len(fields["chain"]) > _MAX_CHAIN:
        raise ValueError("too long a chain")
    shadow = fields["shadow"]
    if shadow is not None and (not isinstance(shadow, str) or "/" in shadow):
        raise ValueError("the shadow is not a plain file name")
    return SealRecord(
        seal_id=_digest(fields["seal_id"], 16),
        generation=_whole(fields["generation"], _MAX_SIZE),
        content_digest=_digest(fields["content_digest"], _DIGEST),
        size=_whole(fields["size"], _MAX_SIZE),
        format=_text(fields["format"]),
        identity=FileIdentity.from_dict(_object(fields["file"])),
        chain=tuple(_chain_from_json(file) for file in fields["chain"]),
        level=Protection[_text(fields["level"])],
        mode_before=_whole(fields["mode_before"], 0o7777),
        shadow=shadow,
        created=_text(fields["created"]),
        made_by=_text(fields["made_by"]),
        signature=_signature_from_json(_object(fields["signature"]) if "signature" in fields else None),
        places=_places_from_json(fields.get("places", [])),
        atime_ns=_atime_from_json(_object(fields["file"])),
        certain=fields.get("certain") is not False,
    )


def _places_from_json(fields: object) -> tuple[Place, ...]:
    if not isinstance(fields, list) or len(fields) > _MOST_PLACES:
        raise ValueError("the places are no list, or too long a one")
    return tuple(_place_from_json(*place) for place in fields)


def _place_from_json(directory: object, mount: object, relative: object, below: object) -> Place:
    place = Place(_text(directory), _text(mount), None if relative is None else _text(relative), below is True)
    names = [name for name in place[:3] if isinstance(name, str)]
    if any("\0" in name for name in names) or not (os.path.isabs(place.directory) and os.path.isabs(place.mount)):
        raise ValueError("a place is no absolute path")
    return place


def _chain_from_json(fields: dict[str, Any]) -> ChainFile:
    digest = fields["content_digest"]
    file = _object(fields["file"])
    content = None if digest is None else _digest(digest, _DIGEST)
    return ChainFile(_text(fields["name"]), FileIdentity.from_dict(file), content, _atime_from_json(file))


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not an object")
    return value


def _whole(value: object, limit: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise ValueError(f"{value!r} is not a number from 0 to {limit}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value


def _digest(value: object, length: int) -> bytes:
    digest = bytes.fromhex(_text(value))
    if len(digest) != length:
        raise ValueError(f"a digest of {len(digest)} bytes where {length} are due")
    return digest
