"""Makes a new image."""

from __future__ import annotations

import contextlib
import os

from cowherd.errors import BackingFileError, CowherdError, InvalidRequest
from cowherd.formats import registry
from cowherd.formats.qcow2.builder import Builder
from cowherd.formats.qcow2.create import new_header, write_empty
from cowherd.formats.qcow2.options import PREALLOCATIONS, Qcow2Options
from cowherd.formats.reference import BackingReference
from cowherd.image.backing import resolve
from cowherd.image.reading import open_reading
from cowherd.sizes import whole_sectors
from cowherd.storage import locks
from cowherd.storage.atomic import make_name_lasting
from cowherd.storage.hostfile import HostFile
from cowherd.storage.presence import is_there
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cowherd.formats.qcow2.header import Header
    from cowherd.paths import PathName
    from cowherd.storage.blocks import BlockFile


def create(
    path: PathName,
    size: int | None = None,
    *,
    format: str = registry.OVERLAY,
    options: Mapping[str, str] | Qcow2Options | None = None,
    backing: str | None = None,
    backing_format: str | None = None,
    unsafe: bool = False,
) -> int:
    """Makes an empty image of `size` bytes (rounded up to whole sectors), or of its backing file's size; returns the size.

    `backing` is stored as given, relative to the new image; `backing_format` must name its format, because guessing the format of
    a file that a guest wrote is not safe. The backing file must open unless `unsafe`. `options` are those of
    `qemu-img create -o`. An existing file is replaced.

    Raises `InvalidRequest`, `BackingFileError`, `HostFileError`, `ImageInUse`.
    """
    made = require_creatable(format)
    reference = _reference(backing, backing_format)
    if reference is not None and not made.backing:
        raise InvalidRequest(f"Backing file not supported for file format '{made.name}'")
    if reference is not None and (size is None or not unsafe):
        size = _size_of_backing(path, reference, size)
    if size is None:
        raise InvalidRequest("Image creation needs a size parameter")
    size = whole_sectors(size)
    if made.verbatim:
        _create_raw(path, size, options)
    else:
        chosen = options if isinstance(options, Qcow2Options) else Qcow2Options.from_mapping(options or {})
        _create_qcow2(path, new_header(size, chosen, reference), chosen.preallocation)
    return size


def require_creatable(format: str) -> registry.Format:
    """Returns the format called `format`. Raises `InvalidRequest` if cowherd can't make images of that format."""
    found = registry.named(format)
    if not found.is_known:
        raise InvalidRequest(f"Unknown file format '{printable(format)}'")
    if not found.creatable:
        raise InvalidRequest(f"Format driver '{format}' does not support image creation")
    return found


def _reference(backing: str | None, backing_format: str | None) -> BackingReference | None:
    if backing is None:
        if backing_format is not None:
            raise InvalidRequest("a backing format is named, but no backing file")
        return None
    if backing_format is None:
        raise InvalidRequest("backing file specified without its format; name it (-F), guessing it is not safe")
    if not registry.named(backing_format).is_known:
        raise InvalidRequest(f"Unknown backing file format '{printable(backing_format)}'")
    return BackingReference(backing, backing_format)


def _size_of_backing(path: PathName, reference: BackingReference, size: int | None) -> int:
    """Opens the backing file, to see that this works; returns `size`, or the backing file's size if that is None."""
    backing = resolve(path, reference).name
    if _same_file(path, backing):
        raise InvalidRequest(f"Error: Trying to create an image with the same filename as the backing file: {printable(path)}")
    try:
        found = _disk_size(backing, reference.format)
        return found if size is None else size
    except BackingFileError:
        raise
    except CowherdError as error:
        raise BackingFileError(path, reference.name, str(error)) from error


def _same_file(a: PathName, b: str) -> bool:
    return os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)


def _disk_size(path: str, format: str | None) -> int:
    """Opens an image with its backing files, and shares it as QEMU does, because only its size matters; returns the size."""
    with open_reading(path, format=format, force_share=True) as reading:
        return reading.size


def _create_raw(path: PathName, size: int, options: Mapping[str, str] | Qcow2Options | None) -> None:
    if isinstance(options, Qcow2Options):
        raise InvalidRequest("qcow2 options do not fit a raw image")
    preallocation = _raw_preallocation(options or {})
    with _created(path) as file:
        refuse_to_preallocate(file, preallocation)
        file.reach(size)
        file.clear_signature()
        if preallocation in ("falloc", "full") and size:
            file.preallocate(0, size)
        file.flush()
    make_name_lasting(path)


@contextlib.contextmanager
def _created(path: PathName) -> Iterator[HostFile]:
    """Gives an empty file to make an image in. If that fails, removes a new file: half an image could pass for a whole one."""
    was_there = is_there(path)
    with HostFile.create(path, lock=locks.CREATE) as file:
        try:
            yield file
        except BaseException:
            if not was_there:
                with contextlib.suppress(OSError):  # the first error says more
                    os.unlink(path)
            raise


def _raw_preallocation(options: Mapping[str, str]) -> str:
    for name in options:
        if name != "preallocation":
            raise InvalidRequest(f"Invalid parameter '{printable(name)}'")
    chosen = options.get("preallocation", "off")
    if chosen not in PREALLOCATIONS or chosen == "metadata":
        raise InvalidRequest(f"Unsupported preallocation mode '{printable(chosen)}'")
    return chosen


def refuse_to_preallocate(file: BlockFile, preallocation: str) -> None:
    """Refuses, as QEMU does, to reserve space on a block device, which has its space anyway."""
    if file.is_block_device and preallocation in ("falloc", "full"):
        raise InvalidRequest(f"Preallocation mode '{preallocation}' unsupported for this non-regular file")


def _create_qcow2(path: PathName, header: Header, preallocation: str) -> None:
    header.pack()  # raises if something does not fit, while an old file of that name is still whole
    if header.backing is not None and preallocation != "off" and not header.extended_l2:
        raise InvalidRequest("Backing file and preallocation can only be used at the same time if extended_l2 is on")
    with _created(path) as file:
        refuse_to_preallocate(file, preallocation)
        file.clear_signature()
        if preallocation == "off":
            write_empty(file, header)
        else:
            _preallocate(file, header, preallocation)
    make_name_lasting(path)


def _preallocate(file: HostFile, header: Header, preallocation: str) -> None:
    """Maps every guest cluster; with extended L2 entries the subclusters stay unallocated, so that a backing file shows.

    A new file has zeros in the clusters. A device has what somebody left there: version 3 can mark it so that nobody sees it.
    """
    hidden = file.is_block_device and header.version >= 3 and not header.extended_l2
    builder = Builder(file, header, shows_zeros=hidden)
    clusters = -(-header.size // header.cluster_size)
    if clusters:
        host = builder.place_data(0, clusters, bitmap=0)
        if preallocation in ("falloc", "full"):
            file.preallocate(host, clusters * header.cluster_size)
        if file.is_block_device:
            file.reach(host + clusters * header.cluster_size)
            if header.version < 3:
                file.write_zeros(host, clusters * header.cluster_size, unmap=False)
    builder.finish()
