"""Checks of the first cluster behind the fixed fields: header extensions and the backing file's name.

Specification: QEMU docs/interop/qcow2, sections Header extensions, Bitmaps extension. No name is ever followed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from cowherd.formats import registry
from cowherd.formats.qcow2 import bitmaps, layout
from cowherd.formats.qcow2.layout import Field, Structure
from cowherd.ops.inspect.head import Head, Region
from cowherd.ops.inspect.policy import Policy
from cowherd.ops.inspect.report import Check, judge, note, ok, refuse
from cowherd.text import counted, printable

_ENCRYPTION = Structure(Field("offset", 0, "Q", "file offset of the encryption header"), Field("length", 8, "Q", "its bytes"))
_ONCE = {
    layout.EXTENSION_BACKING_FORMAT: "backing format",
    layout.EXTENSION_DATA_FILE: "data file",
    layout.EXTENSION_BITMAPS: "bitmaps",
    layout.EXTENSION_ENCRYPTION: "encryption",
}
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:")
_MOST_FORMAT_BYTES = 15
_MOST_ENCRYPTION_BYTES = 64 << 20

Extensions = list[tuple[int, bytes]]


class NameArea:
    """The first cluster of a file with a sound header."""

    def __init__(self, head: Head, area: bytes):
        self.head = head
        self.cluster = area[: head.cluster_size].ljust(head.cluster_size, b"\0")
        self.problem: str | None = None
        self.extensions = self._read()

    def _read(self) -> Extensions:
        """Returns the extensions up to the first broken one, which becomes the `problem`."""
        position = self.head["header_length"]
        limit = min(self.head["backing_file_offset"] or self.head.cluster_size, self.head.cluster_size)
        found: Extensions = []
        while position + layout.EXTENSION.size <= limit:
            one = layout.EXTENSION.unpack(self.cluster, position)
            if one["type"] == layout.EXTENSION_END:
                break
            position += layout.EXTENSION.size
            if one["length"] > limit - position:
                self.problem = f"a header extension of {one['length']} bytes leaves the header's cluster"
                break
            found.append((one["type"], self.cluster[position : position + one["length"]]))
            position += -(-one["length"] // 8) * 8
        return found

    def extension(self, kind: int) -> bytes | None:
        """Returns the data of the last extension of a type, which is the one that QEMU uses."""
        return next((data for found, data in reversed(self.extensions) if found == kind), None)


def check_names(area: NameArea, policy: Policy) -> Iterator[Check]:
    """Yields the checks of everything in the first cluster behind the fixed fields."""
    number = counted(len(area.extensions), "header extension")
    yield judge("extensions", area.problem or _repeated_extension(area.extensions), number)
    yield _check_backing(area, policy)
    yield from _check_data_file(area, policy)
    yield from _check_bitmaps(area, policy)
    yield from _check_encryption(area)


def extension_regions(area: NameArea) -> list[Region]:
    """Returns the parts of the file that extensions name. `check_names` must have accepted them."""
    regions = []
    if area.head["autoclear"] & layout.AUTOCLEAR_BITMAPS and (data := area.extension(layout.EXTENSION_BITMAPS)):
        place = bitmaps.EXTENSION.unpack(data)
        regions.append(Region("bitmap directory", place["directory_offset"], place["directory_size"]))
    if area.head["crypt_method"] == 2 and (data := area.extension(layout.EXTENSION_ENCRYPTION)):
        place = _ENCRYPTION.unpack(data)
        regions.append(Region("encryption header", place["offset"], place["length"]))
    return regions


def _repeated_extension(extensions: Extensions) -> str | None:
    counts = Counter(kind for kind, _ in extensions)
    twice = [name for kind, name in _ONCE.items() if counts[kind] > 1]
    return f"more than one {twice[0]} extension" if twice else None


def _check_backing(area: NameArea, policy: Policy) -> Check:
    offset, length = area.head["backing_file_offset"], area.head["backing_file_size"]
    if not offset:
        return ok("backing-file", "none")
    if offset < area.head["header_length"] or offset + length > area.head.cluster_size:
        return refuse("backing-file", "its name does not lie in the header's cluster, behind the header")
    if length > layout.MAX_BACKING_NAME:
        return refuse("backing-file", f"a name of {length} bytes; at most {layout.MAX_BACKING_NAME} are allowed")
    name = area.cluster[offset : offset + length]
    if b"\0" in name:
        return refuse("backing-file", "its name holds a zero byte")
    if _SCHEME.match(name):
        return refuse("backing-file", f"'{printable(name)}' is no plain file name")
    recorded = area.extension(layout.EXTENSION_BACKING_FORMAT)
    if recorded is not None and len(recorded) > _MOST_FORMAT_BYTES:
        return refuse("backing-file", f"a backing format of {len(recorded)} bytes")
    how = "format not recorded, to be guessed" if not recorded else printable(recorded)
    if recorded and recorded not in (name.encode() for name in registry.FORMATS):
        return refuse("backing-file", f"'{printable(name)}' ({how}): only qcow2 and raw are followed")
    return policy.judge("backing-file", f"'{printable(name)}' ({how})")


def _check_data_file(area: NameArea, policy: Policy) -> Iterator[Check]:
    name = area.extension(layout.EXTENSION_DATA_FILE)
    if name is None:
        return
    if not area.head["incompatible"] & layout.INCOMPATIBLE_DATA_FILE:
        yield note("data-file-name", f"'{printable(name)}' is named, but the image does not use a data file")
    elif not name or b"\0" in name or _SCHEME.match(name):
        yield refuse("data-file-name", f"'{printable(name)}' is no plain file name")
    else:
        yield policy.judge("data-file", f"'{printable(name)}'")


def _check_bitmaps(area: NameArea, policy: Policy) -> Iterator[Check]:
    data = area.extension(layout.EXTENSION_BITMAPS)
    if data is None:
        yield ok("bitmaps", "none")
        return
    if not area.head["autoclear"] & layout.AUTOCLEAR_BITMAPS:
        yield note("bitmaps", "none that count: a program that knows no bitmaps has changed the image since")
        return
    problem = _bitmaps_problem(data, area.head.cluster_size)
    yield policy.judge("bitmaps", "persistent bitmaps") if problem is None else refuse("bitmaps", problem)


def _bitmaps_problem(data: bytes, cluster_size: int) -> str | None:
    if len(data) != bitmaps.EXTENSION.size:
        return f"an extension of {len(data)} bytes instead of {bitmaps.EXTENSION.size}"
    values = bitmaps.EXTENSION.unpack(data)
    number, size, offset = values["nb_bitmaps"], values["directory_size"], values["directory_offset"]
    if values["reserved"]:
        return "a reserved field is not zero"
    if not 1 <= number <= bitmaps.MAX_BITMAPS:
        return f"{number} bitmaps; allowed are 1 to {bitmaps.MAX_BITMAPS}"
    if not number * bitmaps.ENTRY.size <= size <= bitmaps.MAX_DIRECTORY_BYTES:
        return f"a directory of {size} bytes for {counted(number, 'bitmap')}"
    if offset % cluster_size or not cluster_size <= offset < 1 << 56:
        return f"the directory begins at {offset:#x}"
    return None


def _check_encryption(area: NameArea) -> Iterator[Check]:
    if area.head["crypt_method"] != 2:
        return
    data, size = area.extension(layout.EXTENSION_ENCRYPTION), area.head.cluster_size
    if data is None or len(data) != _ENCRYPTION.size:
        yield refuse("encryption-header", "nothing says where it is")
        return
    place = _ENCRYPTION.unpack(data)
    sound = place["offset"] % size == 0 and size <= place["offset"] < 1 << 56 and place["length"] <= _MOST_ENCRYPTION_BYTES
    yield judge("encryption-header", None if sound else f"{place['length']} bytes at {place['offset']:#x}")
