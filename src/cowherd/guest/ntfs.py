"""NTFS: files, streams and structures as The Sleuth Kit lists them, compared with the volume's own bitmap.

Source: the linux-ntfs project's NTFS documentation (system files, attributes).
"""

from __future__ import annotations

import numpy as np

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.chart import FileEntry, FileSystem
from cowherd.guest.owners import overlaps, set_bits, tails
from cowherd.guest.sleuthkit import Attribute, Listed, Sleuth
from cowherd.guest.source import Malformed, Volume

_MOST_NAMED = 20
# Records 0 to 23 of the master file table are the system's; what $Extend holds ($ObjId, $Quota, $UsnJrnl) has ordinary numbers.
_SYSTEM_RECORDS, _EXTEND = 24, "/$Extend"
_INDEX_ALLOCATION = 0xA0
_STRUCTURES = {
    "/$MFT": "master file table",
    "/$MFTMirr": "master file table",
    "/$LogFile": "journal",
    "/$Bitmap": "bitmap",
    "/$Boot": "boot sector",
    "/$Secure": "security descriptors",
}
# Its stream $Bad is sparse and as large as the volume; it would claim every cluster of it.
_OWNS_NOTHING = ("/$BadClus",)


def read_ntfs(volume: Volume) -> FileSystem:
    """Reads the file system in a volume. Raises `Malformed` if it can't be opened or has no bitmap."""
    sleuth = Sleuth(volume)
    problems: list[str] = []
    files: dict[str, FileEntry] = {}
    areas: dict[str, list[tuple[int, int]]] = {}
    owned: dict[int, list[tuple[int, int]]] = {}
    used = None
    for listed in sleuth.listed(problems):
        if not listed.in_use:
            problems.append(f"{listed.path}: leads to record {listed.number}, which is not in use")
        elif listed.path in _OWNS_NOTHING:
            continue
        if listed.path == "/$Bitmap":
            used = _bitmap(sleuth, listed)
        owned[listed.number] = []
        for attribute in listed.attributes:
            runs = [(start, start + length) for _, start, length in attribute.runs]
            owned[listed.number] += runs
            if _is_structure(listed) or not attribute.is_content:
                areas.setdefault(_name(listed, attribute), []).extend(runs)
        if not _is_structure(listed):
            files |= _entries(sleuth, listed)
    if used is None:
        raise Malformed("it has no bitmap")
    whole = extents.ranges([(0, volume.size)])
    return FileSystem(
        volume.place,
        "NTFS",
        volume.span,
        files,
        free=volume.on_disk(extents.subtract(whole, used)),
        idle=tails(files.values(), volume, 0, sleuth.block),
        areas=tuple((name, volume.on_disk(extents.ranges(pairs))) for name, pairs in areas.items() if pairs),
        contradictions=(*problems[:_MOST_NAMED], *_contradictions(owned, used)),
    )


def _is_structure(listed: Listed) -> bool:
    return listed.number < _SYSTEM_RECORDS or listed.path == _EXTEND or listed.path.startswith(f"{_EXTEND}/")


def _name(listed: Listed, attribute: Attribute) -> str:
    if attribute.kind == _INDEX_ALLOCATION:
        return "directory"
    return _STRUCTURES.get(listed.path, "system files" if _is_structure(listed) else "attributes")


def _entries(sleuth: Sleuth, listed: Listed) -> dict[str, FileEntry]:
    """Returns a file by its path, and each of its named streams as path:stream."""
    content = [attribute for attribute in listed.attributes if attribute.is_content]
    main = next((attribute for attribute in content if not attribute.name), None)
    found = {listed.path: sleuth.entry(listed, None if listed.is_directory else main)}
    return found | {f"{listed.path}:{stream.name}": sleuth.entry(listed, stream) for stream in content if stream.name}


def _bitmap(sleuth: Sleuth, listed: Listed) -> Ranges:
    """Returns the bytes of the volume's clusters in use, and the last sector, which holds the copy of the boot sector."""
    (attribute,) = [attribute for attribute in listed.attributes if attribute.is_content and not attribute.name]
    data = b"".join(sleuth.volume.read(start, length) for _, start, length in attribute.runs)[: attribute.size]
    clusters = sleuth.volume.size // sleuth.block
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[:clusters].astype(np.bool_)
    # The copy lies behind the last whole cluster, where no bit of the bitmap stands for it.
    end = clusters * sleuth.block
    return extents.union(
        set_bits(bits) * sleuth.block, extents.ranges([(min(end, sleuth.volume.size - 512), sleuth.volume.size)])
    )


def _contradictions(owned: dict[int, list[tuple[int, int]]], used: Ranges) -> list[str]:
    everything = np.array([pair for pairs in owned.values() for pair in pairs], np.int64).reshape(-1, 2)
    claimed = extents.normalised(everything)
    found = [f"bytes {start} to {end} belong to two files" for start, end in overlaps(everything)[:_MOST_NAMED].tolist()]
    for start, end in extents.subtract(claimed, used)[:_MOST_NAMED].tolist():
        found.append(f"bytes {start} to {end} are in use but marked as free")
    return found
