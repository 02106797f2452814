"""Where the content of Glance's images lies. Only files in the directories of its file stores are ever read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from cowherd.service.glance.configuration import Backend
from cowherd.service.glance.images import GlanceImage
from cowherd.service.records.image import Location
from cowherd.storage.presence import NOTHING, look_up
from cowherd.text import printable

_FILE_SCHEMES = ("file", "filesystem")
_WEB_SCHEMES = ("http", "https")


class Found(NamedTuple):
    """A file with the content of an image, and the name of the file store that it lies in."""

    path: Path
    backend: str


class Files:
    """The file stores of a Glance. `encrypts`: its locations are not plain text, so that files are found by their names."""

    def __init__(self, backends: Sequence[Backend], *, encrypts: bool = False):
        self._backends, self._encrypts = backends, encrypts

    def of(self, image: GlanceImage) -> list[Found]:
        """Returns the files of an image, in the order in which they are to be tried. Raises `HostFileError`."""
        return list(dict.fromkeys(self._candidates(image)))

    def on_the_web(self, image: GlanceImage) -> tuple[Location, ...]:
        """Returns the locations of an image on the web."""
        return () if self._encrypts else tuple(one for one in image.locations if urlsplit(one.url).scheme in _WEB_SCHEMES)

    def _candidates(self, image: GlanceImage) -> Iterator[Found]:
        for path in self._named(image):
            backend = self._backend_of(path)
            if backend and _is_file(path):
                yield Found(path, backend)
        for backend, directory in self._directories():  # it was moved with all that is in it, or its name is encrypted
            path = directory / image.record.id
            if _is_file(path):
                yield Found(path, backend)

    def _named(self, image: GlanceImage) -> list[Path]:
        """Returns the paths that the locations of an image name."""
        if self._encrypts:
            return []
        parts = [urlsplit(one.url) for one in image.locations]
        return [Path(os.path.normpath(one.netloc + one.path)) for one in parts if one.scheme in _FILE_SCHEMES]

    def _backend_of(self, path: Path) -> str | None:
        """Returns the name of the file store that a path lies in: what lies elsewhere is none of Glance's own."""
        return next((name for name, directory in self._directories() if path.parent == directory), None)

    def _directories(self) -> list[tuple[str, Path]]:
        return [(one.name, Path(os.path.normpath(path))) for one in self._backends for path in one.directories]

    def why_none(self, image: GlanceImage) -> str:
        """Returns a sentence about an image without a file; its owner reads it, so it names no path."""
        named = self._named(image)
        if any(self._backend_of(path) is None for path in named):
            return "its location names a file that is in no directory of Glance's file stores"
        if named:
            return "no file store has its file"
        schemes = set() if self._encrypts else {urlsplit(one.url).scheme for one in image.locations}
        if schemes & {*_WEB_SCHEMES}:
            return "its content lies on the web: name a store for that with --http-store"
        if schemes:
            return f"its content lies in a store of another kind ({printable(', '.join(sorted(schemes)))}): copy it with a client"
        return "nothing says where its content lies, and no file store has a file of its id"


def _is_file(path: Path) -> bool:
    info = look_up(path, follow=False, absent=NOTHING)
    return info is not None and stat.S_ISREG(info.st_mode)
