"""Which local files libvirt's XML names, and where its pools lie, found by a look at the text: nothing is parsed.

For who only wants to know where images may lie. What is found counts no more than a file name in a letter: it is looked at.
"""

from __future__ import annotations

import os

from cowherd.live.libvirt_records import ROOT_VARIABLE, all_places, listed, xml_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_BYTES = 16 << 20
_NAMING = (b"file", b"dev", b"path")
"""Attributes whose values are files."""
_ENTITIES = ((b"&lt;", b"<"), (b"&gt;", b">"), (b"&quot;", b'"'), (b"&apos;", b"'"), (b"&amp;", b"&"))


def named_paths(root: str | None = None) -> tuple[list[str], list[str]]:
    """Returns the absolute paths that domains and their snapshots name, and the target directories of pools; raises nothing.

    `root` as for `cowherd.live.libvirt_records.read_records`.
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
            continue  # gone, or not for us: whoever needs to know asks the records, which say so


def _values(text: bytes) -> Iterator[str]:
    """Yields the absolute paths that stand in attributes for files."""
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
