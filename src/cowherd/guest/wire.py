"""A chart as bytes, to pass from the process that reads a guest's file systems to the one that started it.

The bytes come from code that guest data may have misled. So they are plain JSON: nothing in them is executed, and every array is
checked to lie inside the disk.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from cowherd.extents import Ranges, normalised
from cowherd.guest.chart import Chart, FileEntry, FileSystem, Marks, Uncharted
from cowherd.guest.source import Malformed


def encoded(chart: Chart) -> bytes:
    """Returns a chart as JSON. File names that are not UTF-8 keep their bytes as surrogates, which JSON escapes."""
    document = {
        "tables": _array(chart.tables),
        "uncharted": [[part.place, _array(part.span), part.reason, part.idle] for part in chart.uncharted],
        "systems": [_system(system) for system in chart.systems],
        "notes": [list(note) for note in chart.notes],
        "marks": [[one.place, _array(one.span), _array(one.marks)] for one in chart.marks],
    }
    return json.dumps(document).encode()


def _system(system: FileSystem) -> dict[str, Any]:
    entries = list(system.files.values())
    # One array for the runs of all files, split by each file's count: an array a file would be most of the document.
    runs = np.concatenate([np.empty((0, 3), np.int64), *(entry.runs for entry in entries)])
    return {
        "place": system.place,
        "kind": system.kind,
        "span": _array(system.span),
        "free": _array(system.free),
        "idle": _array(system.idle),
        "areas": [[name, _array(ranges)] for name, ranges in system.areas],
        "contradictions": list(system.contradictions),
        "checked": system.checked,
        "notes": list(system.notes),
        "summed": system.summed,
        "rival": system.rival,
        "runs": _array(runs),
        "files": [
            [path, entry.kind, entry.size, len(entry.runs), entry.digest, entry.problem] for path, entry in system.files.items()
        ],
    }


def decoded(data: bytes, size: int) -> Chart:
    """Returns the chart in `data`, of a disk of `size` bytes. Raises `Malformed` if it is no chart of such a disk."""
    try:
        document = json.loads(data)
        uncharted = tuple(
            Uncharted(str(place), _ranges(span, size), str(reason), bool(idle))
            for place, span, reason, idle in document["uncharted"]
        )
        systems = tuple(_system_of(system, size) for system in document["systems"])
        notes = tuple((str(place), str(text)) for place, text in document["notes"])
        marks = tuple(Marks(str(place), _ranges(span, size), _ranges(at, size)) for place, span, at in document["marks"])
        return Chart(systems, _ranges(document["tables"], size), uncharted, notes, marks)
    except (ValueError, KeyError, TypeError) as error:
        raise Malformed(f"what was read from it makes no sense: {error}") from error


def _system_of(document: dict[str, Any], size: int) -> FileSystem:
    runs = _numbers(document["runs"], 3)
    if ((runs < 0).any(axis=1) | (runs[:, 2] > size - runs[:, 1])).any():  # a sum could pass 2^63 and be negative
        raise ValueError("a file past the end of the disk")
    files, at = {}, 0
    for path, kind, length, count, digest, problem in document["files"]:
        files[str(path)] = FileEntry(str(kind), int(length), runs[at : at + int(count)], digest, problem)
        at += int(count)
    return FileSystem(
        str(document["place"]),
        str(document["kind"]),
        _ranges(document["span"], size),
        files,
        free=_ranges(document["free"], size),
        idle=_ranges(document["idle"], size),
        areas=tuple((str(name), _ranges(ranges, size)) for name, ranges in document["areas"]),
        contradictions=tuple(map(str, document["contradictions"])),
        checked=bool(document["checked"]),
        notes=tuple(map(str, document["notes"])),
        summed=bool(document["summed"]),
        rival=bool(document["rival"]),
    )


def _array(array: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array, "<i8").tobytes()).decode()


def _numbers(text: str, columns: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.frombuffer(base64.b64decode(text), "<i8").astype(np.int64).reshape(-1, columns)


def _ranges(text: str, size: int) -> Ranges:
    found = _numbers(text, 2)
    if ((found < 0) | (found > size)).any():
        raise ValueError("a range past the end of the disk")
    return normalised(found)
