"""The rows of one directory: what is known of each of its files, packed into bytes with a checksum.

    4 CRC-32 of what follows | 4 number of files | 40 for each: its identity, five signed 64-bit numbers
    | 4 for each: the index of its content | a JSON document: [names of the files, their different contents, see `_plain`]

All numbers are little-endian. The overlays of one base have equal contents, so each different content is stored once. Bytes that
do not fit their checksum, or that make no sense, count as no rows: the scan reads the files.
"""

from __future__ import annotations

import struct
import zlib

from cowherd.formats.reference import BackingReference
from cowherd.herd.records.binding import Binding
from cowherd.herd.records.header import Content, Head, Identity
from cowherd.herd.records.sealrecord import SealRecord, record_from_json, record_to_json
from cowherd.jsontext import read_json, write_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_PREFIX = struct.Struct("<II")
_CRC = 4
_IDENTITY = struct.Struct("<5q")
_NUMBER = 4
_SEAL, _IMAGE = "seal", "image"


Row = tuple[Identity, Content]
"""A file's identity, and what the file held at that time."""


def pack(rows: Mapping[str, Row]) -> bytes:
    """Returns rows, given by file name, as bytes. Leaves out rows with numbers that don't fit."""
    names: list[str] = []
    identities: list[bytes] = []
    numbers: list[int] = []
    contents: dict[str, int] = {}
    told: dict[int, int] = {}  # index of each content object by its id(): files share these objects, so that few go through JSON
    for name, (identity, content) in rows.items():
        try:
            identities.append(_IDENTITY.pack(*identity))
        except struct.error:
            continue
        names.append(name)
        number = told.get(id(content))
        if number is None:
            text = write_json(_plain(content))
            number = told[id(content)] = contents.setdefault(text, len(contents))
        numbers.append(number)
    document = f"[{write_json(names)},[{','.join(contents)}]]"
    columns = [struct.pack("<I", len(names)), *identities, struct.pack(f"<{len(names)}I", *numbers)]
    body = b"".join([*columns, document.encode("ascii")])
    return zlib.crc32(body).to_bytes(_CRC, "little") + body


def unpack(data: bytes) -> dict[str, Row]:
    """Returns rows by file name; no rows if the bytes are damaged."""
    if len(data) < _PREFIX.size:
        return {}
    crc, count = _PREFIX.unpack_from(data)
    middle = _PREFIX.size + count * _IDENTITY.size
    end = middle + count * _NUMBER
    if zlib.crc32(memoryview(data)[_CRC:]) != crc or end > len(data):
        return {}
    try:
        names, plain = read_json(data[end:])
        contents = list(map(_content, plain))
        identities = _IDENTITY.iter_unpack(data[_PREFIX.size : middle])
        contained = map(contents.__getitem__, struct.unpack_from(f"<{count}I", data, middle))
        return dict(zip(names, zip(identities, contained, strict=True), strict=True))
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}


def _plain(content: Content) -> Any:
    if content is None:
        return None
    if isinstance(content, SealRecord):
        return [_SEAL, record_to_json(content)]
    assert isinstance(content, Head), "what is known of a damaged seal is not kept"
    backing = [content.backing.name, content.backing.format] if content.backing else None
    binding = content.binding
    bound = [binding.content_digest.hex(), binding.seal_id.hex(), binding.generation] if binding else None
    return [_IMAGE, content.size, backing, bound, content.problem, content.dirty, content.corrupt, content.data_file]


def _content(plain: Any) -> Content:
    if plain is None:
        return None
    kind, *facts = plain
    if kind == _SEAL:
        return record_from_json(*facts)
    size, backing, bound, problem, dirty, corrupt, data_file = facts
    binding = Binding(bytes.fromhex(bound[0]), bytes.fromhex(bound[1]), bound[2]) if bound else None
    return Head(size, BackingReference(*backing) if backing else None, binding, problem, dirty, corrupt, data_file)
