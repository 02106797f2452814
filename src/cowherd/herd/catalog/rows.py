"""One row of the catalog: what is known of one file, as bytes that say themselves whether they can be believed.

    4 CRC-32 of what follows | 40 identity: five little-endian signed 64-bit numbers | a JSON document, see `_plain`

A row that does not fit its checksum, or that makes no sense, is as good as none: the file is read.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, Final

from cowherd.formats.layer import BackingReference
from cowherd.herd.binding import Binding
from cowherd.herd.header import Content, Head, Identity
from cowherd.herd.sealfile import SealRecord, record_from_json, record_to_json

_IDENTITY = struct.Struct("<5q")
_CRC = 4
_CONTENT = _CRC + _IDENTITY.size
_SEAL, _IMAGE = "seal", "image"


class Unknown:
    """The type of `UNKNOWN`."""


UNKNOWN: Final = Unknown()
"""What a catalog knows of a file that it has not seen, or that has changed since."""


def pack(identity: Identity, content: Content) -> bytes | None:
    """Returns a row, or None for numbers that no row can hold."""
    try:
        body = _IDENTITY.pack(*identity) + json.dumps(_plain(content), separators=(",", ":")).encode("ascii")
    except struct.error:
        return None
    return struct.pack("<I", zlib.crc32(body)) + body


class Unpacker:
    """Reads rows. Many of them say the same (overlays of one base), which is then one object."""

    def __init__(self) -> None:
        self._seen: dict[bytes, Content] = {}

    def unpack(self, row: bytes | None, identity: Identity) -> Content | Unknown:
        """Returns what `row` says of a file that has `identity` now."""
        try:
            if row is None or row[_CRC:_CONTENT] != _IDENTITY.pack(*identity):
                return UNKNOWN
        except struct.error:
            return UNKNOWN
        if zlib.crc32(row[_CRC:]) != int.from_bytes(row[:_CRC], "little"):
            return UNKNOWN
        text = row[_CONTENT:]
        try:
            return self._seen[text]
        except KeyError:
            pass
        try:
            content = self._seen[text] = _content(json.loads(text))
        except (ValueError, KeyError, TypeError, RecursionError):
            return UNKNOWN
        return content


def _plain(content: Content) -> Any:
    if content is None:
        return None
    if isinstance(content, SealRecord):
        return [_SEAL, record_to_json(content)]
    backing = [content.backing.name, content.backing.format] if content.backing else None
    binding = content.binding
    bound = [binding.content_digest.hex(), binding.seal_id.hex(), binding.generation] if binding else None
    return [_IMAGE, content.size, backing, bound, content.problem, content.dirty, content.corrupt]


def _content(plain: Any) -> Content:
    if plain is None:
        return None
    kind, *facts = plain
    if kind == _SEAL:
        return record_from_json(*facts)
    size, backing, bound, problem, dirty, corrupt = facts
    binding = Binding(bytes.fromhex(bound[0]), bytes.fromhex(bound[1]), bound[2]) if bound else None
    return Head(size, BackingReference(*backing) if backing else None, binding, problem, dirty, corrupt)
