"""Finds the local files that libvirt's XML names, and the directories of its pools, by searching the text without parsing it.

For callers that only want to know where images may lie. A path found here is no more than a hint at a place to look.
"""

from __future__ import annotations

import os

from cowherd.live.libvirt_records import ROOT_VARIABLE, all_places, listed, xml_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_BYTES = 16 << 20
_NAMING = (b"file", b"dev", b"path")
"""Attributes whose values are paths of files."""
_ENTITIES = ((b"&lt;", b"<"), (b"&gt;", b">"), (b"&quot;", b'"'), (b"&apos;", b"'"), (b"&amp;", b"&"))


def named_paths(root: str | None = None) -> tuple[list[str], list[str]]:
    """Returns the absolute paths that domains and their snapshots name, and the target directories of pools. Raises nothing.

    `root` is as for `cowherd.live.libvirt_records.read_records`.
    """
    top = root if root is not None else os.environ.get(ROOT_VARIABLE, "/")
    files: dict[str, None] = {}
    pools: dict[str, None] = {}
    for places in all_places(top):
        snapshots = f"{places.state}/snapshot"
        for directory in (places.defined, places.running, *(f"{snapshots}/{name}" for name in listed(snapshots))):
            files |= {path: None for text in _texts(directory) for path in _values(text)}
        for directory in places.pools:
            pools |= {path: None for text in _texts(directory) for path in _elements(text, b"path")}
    return list(files), list(pools)


def _texts(directory: str) -> Iterator[bytes]:
    for name in xml_in(directory):
        try:
            with open(f"{directory}/{name}", "rb") as file:
                yield file.read(_MOST_BYTES)
        except OSError:
            continue  # gone, or not readable for this user; `libvirt_records` reports that


def _values(text: bytes) -> Iterator[str]:
    """Yields the absolute paths in the attributes for files."""
    for name in _NAMING:
        for quote in (b"'", b'"'):
            for part in text.split(b" " + name + b"=" + quote)[1:]:
                value = part.split(quote, 1)[0]
                if value.startswith(b"/"):
                    yield _path(value)


def _elements(text: bytes, name: bytes) -> Iterator[str]:
    for part in text.split(b"<" + name + b">")[1:]:
        value = part.split(b"<", 1)[0].strip()
        if value.startswith(b"/"):
            yield _path(value)


def _path(value: bytes) -> str:
    for entity, character in _ENTITIES:
        value = value.replace(entity, character)
    return os.path.abspath(os.fsdecode(value))
