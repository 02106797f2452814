"""Checks an image's tables for contradictions, as `qemu-img check` does without -r."""

from __future__ import annotations

from contextlib import closing

from cowherd.errors import CowherdError
from cowherd.formats import probe, registry
from cowherd.formats.qcow2.report import CheckReport
from cowherd.paths import as_path
from cowherd.storage.locks import READ, READ_SHARED
from cowherd.storage.opening import open_file
from cowherd.text import printable
from cowherd.urls import Url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.urls import ImageName

__all__ = ["CheckNotSupported", "CheckReport", "check"]


class CheckNotSupported(CowherdError):
    """An image's format has no tables to check. Attributes: `path`, `format`."""

    def __init__(self, path: ImageName, format: str):
        self.path, self.format = path if isinstance(path, Url) else as_path(path), format

    def __str__(self) -> str:
        return f"{printable(self.path)}: This image format does not support checks ({printable(self.format)})"


def check(path: ImageName, *, format: str | None = None, force_share: bool = False) -> CheckReport:
    """Checks one image, without the backing files under it; see `cowherd.formats.qcow2.check.check` for the cost.

    `format` None guesses it from the first bytes. `force_share` checks an image that another process may be writing: then a
    contradiction may just be a change in progress.
    Raises `CheckNotSupported`, `HostFileError`, `ImageInUse`, `ImageFormatError` if the header, the snapshot table or the bitmap
    directory can't be read, and `UnsupportedFeature`.
    """
    with closing(open_file(path)) as file:
        found = registry.named(probe.probe(file) if format is None else format)
        if not found.checked:
            raise CheckNotSupported(path, found.name)
        file.lock(READ_SHARED if force_share else READ)
        return found.check(file)
