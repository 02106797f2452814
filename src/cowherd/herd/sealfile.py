"""The file that holds a seal: `NAME.seal` beside the image NAME, or where none can lie there, see `cowherd.herd.sealplace`.

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
from cowherd.herd import records
from cowherd.herd.book.place import Place, covers, places_from_json, with_places
from cowherd.herd.ownership import SEAL_MAGIC, is_seal, require_name_free
from cowherd.herd.sealplace import KeptFor, is_kept, kept_seal, look_again
from cowherd.paths import as_path
from cowherd.storage import atomic
from cowherd.storage.attributes import Attributes
from cowherd.storage.hostfile import HostFile
from cowherd.storage.identity import FileIdentity
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
BLOCK_SIZE = 65536

_MAGIC = SEAL_MAGIC
_VERSION = 1
_PREFIX = struct.Struct("<8sIII4xQQ")
_MAX_RECORD = 8 << 20
_MAX_SIZE = (1 << 63) - BLOCK_SIZE
_MAX_CHAIN = 1000
_LONGEST_FORMAT = 32
_DIGEST = 32
_OWNER_READS = 0o400
_RUN = 16
_LARGE = 16 << 20


class ChainFile(NamedTuple):
    """A backing file that the sealed content was read through: its name then, its identity, and its own seal's content digest."""

    name: str
    identity: FileIdentity
    content_digest: bytes | None
    atime_ns: int | None = None


class Signature(NamedTuple):
    """Who vouches for a seal: an Ed25519 public key (32 bytes) and its signature (64 bytes); see `cowherd.herd.signing`."""

    public_key: bytes
    value: bytes


class SealRecord(NamedTuple):
    """What a seal says apart from the digests of the blocks.

    `seal_id` (16 bytes) names the seal and stays the same when the image is sealed anew, `generation` counts from 1.
    `chain` lists the files below the image, nearest first. `mode_before` is the file mode to go back to, `immutable_before`: it
    was immutable when it was sealed, which is not to be taken away. `shadow_file` is what the file `shadow` is known by; None in
    a seal that an older cowherd wrote. `places` are where overlays of it were made or seen, which is no part of what is signed.
    `attributes` say to whom the file belonged, None where an older cowherd did not record that, `kept_for` whose the seal is if
    it does not lie beside it. `of_file`: what is sealed are the bytes of the file, whose format nobody here reads, and not what a
    guest sees.
    `atime_ns` is when the file was last read then, by which times that were set by hand are told (None in older seals).
    `certain`: the clock had ticked when the identities were recorded.
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
    immutable_before: bool = False
    shadow_file: FileIdentity | None = None
    places: tuple[Place, ...] = ()
    attributes: Attributes | None = None
    kept_for: KeptFor | None = None
    of_file: bool = False
    atime_ns: int | None = None
    certain: bool = True


def find_seal(image: str | os.PathLike[str]) -> str | None:
    """Returns the seal of `image`, or None: beside the file that the name leads to, past symbolic links, or where it is kept."""
    real = os.path.realpath(image)
    return real + SUFFIX if is_seal(real + SUFFIX) else kept_seal(real)


def seal_name(image: str | os.PathLike[str]) -> str:
    """Returns where the seal of `image` is; of one that has none, the name beside it."""
    return find_seal(image) or os.path.realpath(image) + SUFFIX


def seal_path(image: str | os.PathLike[str]) -> Path:
    """Returns the same as a path."""
    return as_path(seal_name(image))


def is_sealed(image: str | os.PathLike[str]) -> bool:
    """Returns whether `image` has a seal; what only has a seal's name is none. Raises `HostFileError`."""
    return find_seal(image) is not None


def write_seal(path: str | os.PathLike[str], record: SealRecord, digests: BlockDigests) -> None:
    """Writes a seal in one step: after a crash either the old one or the new one is there. It takes no other
    file's name (`NameTaken`). Raises `HostFileError`.

    What the old one knows of places with overlays, the new one knows too.
    """
    counts = len(digests.runs), len(digests.digests)
    with _alone_beside(path):
        places = with_places(record.places, _places_in(path, record.seal_id))
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
        record = record._replace(places=with_places(record.places, new))
        try:
            _write(path, record, (reader.run_count, reader.digest_count), [memoryview(data)[reader.body : reader.end]])
        except HostFileError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return False
    return all(any(covers(known, one) for known in record.places) for one in new)


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

    if record.kept_for and not is_kept(path):  # it was brought back beside its image
        record = record._replace(kept_for=None)
    text = json.dumps(record_to_json(record), sort_keys=True, separators=(",", ":")).encode("ascii")
    prefix = _PREFIX.pack(_MAGIC, _VERSION, len(text), zlib.crc32(text), *counts)
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


def _put(path: str | os.PathLike[str], buffers: list[Buffer], image: str, *, replaces: bool) -> None:
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


def read_record(path: str | os.PathLike[str]) -> SealRecord:
    """Reads the record of a seal. Raises `ImageFormatError` if it is damaged, `HostFileError` if it can't be read."""
    with HostFile.open(path, lock=None, follow=False) as file:
        return _Reader(file).record()


def read_digests(path: str | os.PathLike[str]) -> tuple[SealRecord, BlockDigests]:
    """Reads a whole seal and checks it: its checksum, its runs, and that its content digest is that of its blocks.

    Raises `ImageFormatError` if it is damaged, `HostFileError` if it can't be read.
    """
    with HostFile.open(path, lock=None, follow=False) as file:
        return _Reader(file).everything()


def check_seal(path: str | os.PathLike[str]) -> SealRecord:
    """Does the same without numpy, and returns the record alone. Raises as `read_digests`."""
    with HostFile.open(path, lock=None, follow=False) as file:
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
        if self.digest_count > _MAX_SIZE // BLOCK_SIZE or self.run_count > self.digest_count:
            raise self._damaged("it is cut short: it has more blocks than any image")
        self.end = self.body + self.run_count * _RUN + self.digest_count * _DIGEST
        if file.size() != self.end + _DIGEST or self._has_holes():
            raise self._damaged("it is cut short, or longer than it says")

    def _has_holes(self) -> bool:
        """Digests have none. A file with holes can claim to be longer than the disk, and fill the memory of who reads it."""
        return self.end > _LARGE and next(self.file.data_ranges(0, self.end), None) != (0, self.end)

    def record(self) -> SealRecord:
        text = self.file.pread(_PREFIX.size, self.length)
        if zlib.crc32(text) != self.crc:
            raise self._damaged("the checksum of its record is wrong")
        try:
            return record_from_json(records.load_record(text))
        except ValueError as error:
            raise self._damaged(f"its record makes no sense ({error})") from error

    def checked(self) -> tuple[SealRecord, bytes]:
        """Returns the record and the whole file, in which runs and digests are sound."""
        from blake3 import blake3

        from cowherd.herd.content import content_digest

        try:
            data = self.file.pread(0, self.end + _DIGEST)
        except (MemoryError, OverflowError) as error:  # a file may be nearly all holes, and longer than any memory
            raise self._damaged(f"it has {self.end} bytes, which do not fit into memory") from error
        view = memoryview(data)
        if blake3(view[: self.end]).digest() != data[self.end :]:
            raise self._damaged("its checksum is wrong")
        record = self.record()
        self._check_runs(struct.iter_unpack("<qq", view[self.body : self.body + self.run_count * _RUN]), record.size)
        found = content_digest(record.size, self.run_count, view[self.body : self.end], of_file=record.of_file)
        if found != record.content_digest:
            raise self._damaged("its content digest is not that of its blocks")
        return record, data

    def everything(self) -> tuple[SealRecord, BlockDigests]:
        import numpy as np

        from cowherd.herd.digest import BlockDigests

        record, data = self.checked()
        runs = np.frombuffer(data, "<i8", self.run_count * 2, self.body).reshape(-1, 2).astype(np.int64)
        rows = np.frombuffer(data, np.uint8, self.digest_count * _DIGEST, self.body + self.run_count * _RUN)
        return record, BlockDigests(record.size, runs, rows.reshape(-1, _DIGEST), record.of_file)

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
        "immutable_before": record.immutable_before,
        "shadow": record.shadow,
        "shadow_file": record.shadow_file.to_dict() if record.shadow_file else None,
        "created": record.created,
        "made_by": record.made_by,
        **_signature_to_json(record.signature),
        **({"places": [list(place) for place in record.places]} if record.places else {}),
        **({"attributes": record.attributes.to_dict()} if record.attributes else {}),
        **({"place": record.kept_for._asdict()} if record.kept_for else {}),
        **({"of_file": True} if record.of_file else {}),
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


def _signature_from_json(fields: dict[str, Any]) -> Signature:
    return Signature(records.digest(records.field(fields, "key"), 32), records.digest(records.field(fields, "value"), 64))


def _chain_to_json(file: ChainFile) -> dict[str, Any]:
    digest = file.content_digest.hex() if file.content_digest else None
    return {"name": file.name, "file": _file_to_json(file.identity, file.atime_ns), "content_digest": digest}


def record_from_json(fields: dict[str, Any]) -> SealRecord:
    """Reads what `record_to_json` gave, or an older cowherd's. Raises ValueError where it makes no sense."""
    fields = records.dictionary(fields)
    if records.whole(records.field(fields, "block_size")) != BLOCK_SIZE:
        raise ValueError(f"blocks of {fields['block_size']} bytes")
    shadow, shadow_file = fields.get("shadow"), fields.get("shadow_file")
    return SealRecord(
        seal_id=records.digest(records.field(fields, "seal_id"), 16),
        generation=records.whole(records.field(fields, "generation"), _MAX_SIZE),
        content_digest=records.digest(records.field(fields, "content_digest"), _DIGEST),
        size=records.whole(records.field(fields, "size"), _MAX_SIZE),
        format=records.word(records.field(fields, "format"), _LONGEST_FORMAT),
        identity=_identity(records.field(fields, "file")),
        chain=tuple(_chain_from_json(file) for file in records.row(records.field(fields, "chain"), _MAX_CHAIN)),
        level=_level(records.field(fields, "level")),
        mode_before=records.whole(records.field(fields, "mode_before"), 0o7777),
        shadow=None if shadow is None else records.plain_name(shadow),
        created=records.word(records.field(fields, "created")),
        made_by=records.word(records.field(fields, "made_by")),
        signature=_signature_from_json(records.dictionary(fields["signature"])) if "signature" in fields else None,
        immutable_before=records.yes_or_no(fields.get("immutable_before", False)),
        shadow_file=None if shadow_file is None else _identity(shadow_file),
        places=places_from_json(fields.get("places", [])),
        attributes=Attributes.from_dict(records.dictionary(fields["attributes"])) if "attributes" in fields else None,
        kept_for=KeptFor.from_dict(records.dictionary(fields["place"])) if "place" in fields else None,
        of_file=records.yes_or_no(fields.get("of_file", False)),
        atime_ns=_atime_from_json(records.dictionary(records.field(fields, "file"))),
        certain=records.yes_or_no(fields.get("certain", True)),
    )


def _chain_from_json(file: object) -> ChainFile:
    fields = records.dictionary(file)
    digest = records.field(fields, "content_digest")
    content = None if digest is None else records.digest(digest, _DIGEST)
    return ChainFile(records.path_name(records.field(fields, "name")), _identity(records.field(fields, "file")), content)


def _identity(value: object) -> FileIdentity:
    return FileIdentity.from_dict(records.dictionary(value))


def _level(value: object) -> Protection:
    name = records.text(value)
    if name not in Protection.__members__:
        raise ValueError(f"{name[:20]!a} is no level of protection")
    return Protection[name]
