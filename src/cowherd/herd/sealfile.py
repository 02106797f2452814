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

import json
import os
import struct
import zlib

from cowherd.errors import ImageFormatError
from cowherd.herd.sealplace import Place, is_kept, kept_seal, look_again
from cowherd.paths import as_path
from cowherd.storage import atomic
from cowherd.storage.attributes import Attributes
from cowherd.storage.hostfile import HostFile
from cowherd.storage.identity import FileIdentity
from cowherd.storage.presence import is_there
from cowherd.storage.protection import Protection
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any

    from cowherd.herd.digest import BlockDigests

SUFFIX = ".seal"
SHADOW_SUFFIX = ".shadow"
BLOCK_SIZE = 65536

_MAGIC = b"cowseal\n"
_VERSION = 1
_PREFIX = struct.Struct("<8sIII4xQQ")
_MAX_RECORD = 1 << 20
_MAX_SIZE = (1 << 63) - BLOCK_SIZE
_MAX_CHAIN = 1000
_DIGEST = 32
_RUN = 16
_MODE = 0o444


class ChainFile(NamedTuple):
    """A backing file that the sealed content was read through: its name then, its identity, and its own seal's content digest."""

    name: str
    identity: FileIdentity
    content_digest: bytes | None


class Signature(NamedTuple):
    """Who vouches for a seal: an Ed25519 public key (32 bytes) and its signature (64 bytes); see `cowherd.herd.signing`."""

    public_key: bytes
    value: bytes


class SealRecord(NamedTuple):
    """What a seal says apart from the digests of the blocks.

    `seal_id` (16 bytes) names the seal and stays the same when the image is sealed anew, `generation` counts from 1.
    `chain` lists the files below the image, nearest first. `mode_before` is the file mode to go back to, `attributes` say to whom
    the file belonged, None where an older cowherd did not record that, `place` whose the seal is if it does not lie beside it.
    `of_file`: what is sealed are the bytes of the file, whose format nobody here reads, and not what a guest sees.
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
    attributes: Attributes | None = None
    place: Place | None = None
    of_file: bool = False


def find_seal(image: str | os.PathLike[str]) -> str | None:
    """Returns the seal of `image`, or None: beside the file that the name leads to, past symbolic links, or where it is kept."""
    real = os.path.realpath(image)
    return real + SUFFIX if is_there(real + SUFFIX) else kept_seal(real)


def seal_name(image: str | os.PathLike[str]) -> str:
    """Returns where the seal of `image` is; of one that has none, the name beside it."""
    return find_seal(image) or os.path.realpath(image) + SUFFIX


def seal_path(image: str | os.PathLike[str]) -> Path:
    """Returns the same as a path."""
    return as_path(seal_name(image))


def is_sealed(image: str | os.PathLike[str]) -> bool:
    """Returns whether `image` has a seal."""
    return find_seal(image) is not None


def write_seal(path: str | os.PathLike[str], record: SealRecord, digests: BlockDigests) -> None:
    """Writes a seal in one step: after a crash either the old one or the new one is there. Raises `HostFileError`."""
    from blake3 import blake3

    if record.place and not is_kept(path):  # it was brought back beside its image
        record = record._replace(place=None)
    text = json.dumps(record_to_json(record), sort_keys=True, separators=(",", ":")).encode("ascii")
    prefix = _PREFIX.pack(_MAGIC, _VERSION, len(text), zlib.crc32(text), len(digests.runs), len(digests.digests))
    buffers = [prefix, text, digests.runs.astype("<i8").tobytes(), digests.digests.tobytes()]
    checksum = blake3()
    for buffer in buffers:
        checksum.update(buffer)
    atomic.write_atomically(path, [*buffers, checksum.digest()], mode=_MODE)
    if record.place:
        look_again()


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
        "file": record.identity.to_dict(),
        "chain": [_chain_to_json(file) for file in record.chain],
        "level": record.level.name,
        "mode_before": record.mode_before,
        "shadow": record.shadow,
        "created": record.created,
        "made_by": record.made_by,
        **_signature_to_json(record.signature),
        **({"attributes": record.attributes.to_dict()} if record.attributes else {}),
        **({"place": record.place._asdict()} if record.place else {}),
        **({"of_file": True} if record.of_file else {}),
    }


def _signature_to_json(signature: Signature | None) -> dict[str, Any]:
    return {"signature": {"key": signature.public_key.hex(), "value": signature.value.hex()}} if signature else {}


def _signature_from_json(fields: dict[str, object] | None) -> Signature | None:
    return None if fields is None else Signature(_digest(fields["key"], 32), _digest(fields["value"], 64))


def _chain_to_json(file: ChainFile) -> dict[str, Any]:
    digest = file.content_digest.hex() if file.content_digest else None
    return {"name": file.name, "file": file.identity.to_dict(), "content_digest": digest}


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
        attributes=Attributes.from_dict(_object(fields["attributes"])) if "attributes" in fields else None,
        place=Place.from_dict(_object(fields["place"])) if "place" in fields else None,
        of_file=fields.get("of_file", False) is True,
    )


def _chain_from_json(fields: dict[str, Any]) -> ChainFile:
    digest = fields["content_digest"]
    identity = FileIdentity.from_dict(_object(fields["file"]))
    return ChainFile(_text(fields["name"]), identity, None if digest is None else _digest(digest, _DIGEST))


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
