"""Follows a chain from image to image: names, formats, locks and loops. The caller decides what each opened file becomes."""

from __future__ import annotations

from cowherd.errors import BackingFileError, HostFileError, ImageFormatError, UnsupportedFeature
from cowherd.formats import probe, registry
from cowherd.image.backing import resolve
from cowherd.storage import locks
from cowherd.storage.opening import open_file
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from cowherd.formats.reference import BackingReference
    from cowherd.formats.registry import Format
    from cowherd.image.link import AnyLink, Make
    from cowherd.storage.blocks import BlockFile, Opener
    from cowherd.storage.locks import LockMode
    from cowherd.urls import ImageName, Url

MAX_CHAIN = 1024
"""Longest chain that is followed; each layer costs a file descriptor."""


class Use(NamedTuple):
    """How the files of a chain are opened, and locked: `top` gives the lock for the top file, by its format; `below` is for all
    files under it."""

    top: Callable[[Format], LockMode]
    below: LockMode
    opener: Opener = open_file


READING = Use(lambda format: format.lock_to_read, locks.READ)
WRITING = Use(lambda format: format.lock_to_write, locks.READ)
SHARED = Use(lambda _: locks.READ_SHARED, locks.READ_SHARED)


def open_chain(
    path: ImageName,
    format: str | None,
    make: Make[AnyLink],
    *,
    use: Use,
    writable: bool = False,
    backing: bool = True,
) -> list[AnyLink]:
    """Returns the image at `path` and, if `backing`, every image under it, the top one first.

    A format of None is guessed from the file's first bytes. Only the top is opened for writing, if `writable`.
    Raises `HostFileError`, `ImageInUse`, `UnsupportedFeature`, `BackingFileError`, and what `make` raises; after an error nothing
    stays open.
    """
    links: list[AnyLink] = []
    try:
        links.append(_open_top(path, format, make, writable=writable, use=use))
        if backing:
            _open_backing_files(links, make, use)
    except BaseException:
        for link in links:
            link.close()
        raise
    return links


def _open_top(path: ImageName, format: str | None, make: Make[AnyLink], *, writable: bool, use: Use) -> AnyLink:
    file = use.opener(path, writable=writable)
    return _made(file, format, make, use.top)


def _open_backing_files(links: list[AnyLink], make: Make[AnyLink], use: Use) -> None:
    visited = {links[0].file.key}
    while (stored := links[-1].backing) is not None:
        overlay = links[-1].file.name
        if len(links) >= MAX_CHAIN:
            raise BackingFileError(overlay, stored.name, f"the chain is longer than {MAX_CHAIN} images")
        links.append(_open_backing(overlay, stored, make, use, visited))


def _open_backing(overlay: str | Url, stored: BackingReference, make: Make[AnyLink], use: Use, visited: set[Hashable]) -> AnyLink:
    reference = resolve(overlay, stored)
    try:
        file = use.opener(reference.name)
    except HostFileError as error:
        raise BackingFileError(overlay, stored.name, str(error)) from error
    if file.key in visited:  # before locking: an image open for writing would refuse the lock to itself
        file.close()
        raise BackingFileError(overlay, stored.name, "the chain is a loop: this file is an overlay of itself")
    visited.add(file.key)
    try:
        return _made(file, reference.format, make, lambda _: use.below)
    except UnsupportedFeature as error:
        raise BackingFileError(overlay, stored.name, str(error)) from error
    except ImageFormatError as error:
        raise BackingFileError(overlay, stored.name, error.problem) from error


def _made(file: BlockFile, format: str | None, make: Make[AnyLink], lock: Callable[[Format], LockMode]) -> AnyLink:
    """Makes a link of `file` as an image of `format` (None: guessed); closes the file if that fails."""
    try:
        found = registry.named(probe.probe(file) if format is None else format)
        if not found.is_known:
            raise UnsupportedFeature(file.name, f"the image format '{found.name}'")
        if file.writable and not found.writable:
            raise UnsupportedFeature(file.name, f"writing to an image of the format '{found.name}'")
        file.lock(lock(found))
        return make(file, found.name)
    except BaseException:
        file.close()
        raise
