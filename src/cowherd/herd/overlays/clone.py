"""Making overlays: of a sealed base, with its format recorded and a binding in the new header."""

from __future__ import annotations

import errno
import os

from cowherd.errors import HostFileError, ImageInUse, InvalidRequest, UnsupportedFeature
from cowherd.formats import registry
from cowherd.formats.reference import BackingReference
from cowherd.herd.lineage.backing_names import stored_name
from cowherd.herd.lineage.book.seals import remember_overlay
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.requirements import require_one_format
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.records.binding import Binding, with_binding
from cowherd.herd.records.sidecars import refuse_left_seal
from cowherd.herd.seals.evidence import require_uncontradicted
from cowherd.herd.seals.quick_check import record_of, require_as_sealed
from cowherd.live.holders import naming_holders
from cowherd.paths import as_path, in_real_directory, path_names
from cowherd.sizes import size_in_bytes, whole_sectors
from cowherd.storage.atomic import newcomer
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ
from cowherd.storage.presence import is_there
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.seals.seal import Sealed
    from cowherd.paths import PathName, PathNames
    from cowherd.progress import Progress
    from cowherd.sizes import Size


class Cloned(NamedTuple):
    """A new overlay: its name, that of its base, the base as recorded in it, its virtual size, its binding (None without a seal).

    `sealed`: what sealing the base did, None if the base was sealed before or was not to be sealed.
    """

    filename: str
    base_filename: str
    backing: BackingReference
    size: int
    binding: Binding | None
    sealed: Sealed | None = None

    @property
    def overlay(self) -> Path:
        """Path of the overlay."""
        return as_path(self.filename)

    @property
    def base(self) -> Path:
        """Path of the base."""
        return as_path(self.base_filename)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd clone --json` prints them."""
        return {
            "overlay": self.filename,
            "base": self.base_filename,
            "backing_file": self.backing.name,
            "backing_format": self.backing.format,
            "size": self.size,
            "bound": self.binding is not None,
            "content_digest": self.binding.content_digest.hex() if self.binding else None,
            "sealed_now": self.sealed is not None,
        }


def clone(
    base: PathName,
    overlay: PathName,
    *,
    size: Size | None = None,
    base_format: str | None = None,
    seal_base: bool = True,
    herd: PathNames = (),
    force: bool = False,
    progress: Progress | None = None,
) -> Cloned:
    """Makes `overlay`, a new qcow2 image on `base`, of `size` bytes (None: the base's size), and seals a base that has no seal.

    `base_format` is needed only where nothing records the format of the base and guessing it is not safe.
    Raises `InvalidRequest` for a size smaller than the base's, `DriftFound` for a base that has changed since it was sealed,
    `HostFileError` if `overlay` is there already, `ImageInUse` if a process writes to the base, and, unless `force`, `NotSound`
    for an unsealed base that is damaged, cut off, empty, or no disk image.
    """
    herd = path_names(herd)
    target = in_real_directory(overlay)
    if is_there(target):
        raise HostFileError(overlay, "create", FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)))
    refuse_left_seal(target)
    # From here on until the overlay is there, nothing is merged into the base, and nobody deletes it.
    with naming_holders(), HostFile.open(base, lock=READ) as locked:
        lineage = survey_around(base, herd=herd)
        image = lineage.find(base, base_format)
        if image.key != (locked.device, locked.inode):  # another file has taken its name
            raise ImageInUse(image.path, "read")
        require_none(lineage, [image], "make an overlay of")
        require_one_format(lineage, [image], "make an overlay of")
        if not force:
            require_uncontradicted(lineage, [image], "make an overlay of it", progress=progress)
            if image.seal is None:  # a sealed one was found sound when it was sealed
                from cowherd.herd.seals.soundness import require_sound_chain

                require_sound_chain(lineage, image, "make an overlay of", stated=base_format is not None, tables=seal_base)
        require_free(stable=lineage.chain(image), locks=False)
        virtual_size = _checked_size(image, size)
        sealed = None
        if image.seal is None and seal_base:
            from cowherd.herd.seals.seal import seal

            sealed = seal(base, image_format=image.format, herd=herd, force=force, looked_at=True, progress=progress)
        record = record_of(image)
        require_as_sealed(lineage, image, "make an overlay of it")
        reference = BackingReference(stored_name(image.filename, target), image.format)
        binding = Binding.to(record) if record else None
        _create(target, virtual_size, reference, binding)
    remember_overlay(image, target)
    return Cloned(target, image.filename, reference, virtual_size, binding, sealed)


def _checked_size(image: Image, size: Size | None) -> int:
    if not registry.named(image.format).is_known:
        raise UnsupportedFeature(image.path, f"a base of format {image.format}")
    if image.size is None:
        raise InvalidRequest(image.problem or f"the size of {printable(image.path)} is unknown")
    wanted = image.size if size is None else size_in_bytes(size)
    if wanted < image.size:
        raise InvalidRequest(f"an overlay of {wanted} bytes would cut off the end of its base, which has {image.size}")
    return image.size if size is None else whole_sectors(wanted)


def _create(path: str, size: int, reference: BackingReference, binding: Binding | None) -> None:
    from cowherd.formats.qcow2.create import new_header, write_empty
    from cowherd.formats.qcow2.options import Qcow2Options

    header = with_binding(new_header(size, Qcow2Options(), reference), binding)
    with newcomer(path) as file:
        write_empty(file, header)
