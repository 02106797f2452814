"""What must hold before images are deleted: nothing needs them, nobody uses them, and what proves that is on the disk."""

from __future__ import annotations

import contextlib
import os

from cowherd.errors import BaseInUse, BaseSealed, ImageInUse
from cowherd.formats import registry
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.requirements import require_readable
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.machines.domains import require_not_saved, require_unnamed
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.records.faults import AwaitedInTrash
from cowherd.herd.records.sidecars import require_liftable
from cowherd.live.holders import naming_holders
from cowherd.storage.durable import make_durable_if_recent
from cowherd.storage.filetype import refuse_device_node
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.paths import PathName


_GIVE_UP = "'virsh undefine' or 'virsh detach-disk --config' makes it forget the disk; --force deletes it all the same"


@contextlib.contextmanager
def checked_for_deletion(
    images: Sequence[PathName], *, force: bool, readable: bool, herd: Sequence[PathName]
) -> Iterator[tuple[Lineage, list[Image]]]:
    """Gives the block the images that `images` name, in the order to delete them, once it is certain that they may be deleted.

    They are locked before their overlays are looked for, and until they are deleted: making an overlay takes a lock too.
    """
    for name in images:
        refuse_device_node(name, "delete", "remove the volume with what made it (as in 'lvremove'), or its content with 'wipefs'")
    with contextlib.ExitStack() as stack:
        in_use = _locked(images, stack)
        lineage = survey_around(*images, herd=herd)
        doomed = in_order(lineage, images)
        refuse_needed(lineage, doomed, force=force)
        if readable and doomed:
            require_readable(lineage, doomed[0], "delete")
        for image in doomed if not force else ():
            require_liftable(image.path, "delete", seal=image.seal, forceable=True)
        if in_use:
            raise in_use
        require_free(doomed, locks=False)
        if not force:
            require_unnamed(doomed, "delete", _GIVE_UP)
            require_not_saved((image.filename for image in doomed), "delete")
        yield lineage, doomed


def _locked(images: Sequence[PathName], stack: contextlib.ExitStack) -> ImageInUse | None:
    """Locks images until `stack` ends; returns the error of the first one in use: there may be a better reason to refuse."""
    files: dict[tuple[int, int], HostFile] = {}
    for name in images:
        file = stack.enter_context(HostFile.open(name, lock=None))
        files.setdefault((file.device, file.inode), file)
    try:
        with naming_holders():
            for file in files.values():
                file.lock(WRITE)
    except ImageInUse as error:
        return error
    return None


def in_order(lineage: Lineage, paths: Sequence[PathName]) -> list[Image]:
    """Returns the images that `paths` name, each once, those furthest from a root first."""
    images = {image.key: image for image in (lineage.find(os.path.realpath(path)) for path in paths)}
    return sorted(images.values(), key=lambda image: (-len(lineage.chain(image)), image.path))


def refuse_needed(lineage: Lineage, doomed: Sequence[Image], *, force: bool = False) -> None:
    """Raises `BaseSealed` or `BaseInUse` if one of `doomed` is needed by an image that is not among them, and `MergePending`."""
    require_none(lineage, doomed, "delete")
    keys = {image.key for image in doomed}
    for image in doomed if not force else ():
        others = [dependent for dependent in lineage.dependents(image) if dependent.key not in keys]
        needing = [other.filename for other in others if lineage.trashed_from(other) is None]  # the others can be restored too
        if needing:
            raise BaseSealed(image.path, "delete", needing) if image.seal else BaseInUse(image.path, "delete", needing)


def refuse_awaited(lineage: Lineage, doomed: Sequence[Image]) -> None:
    """Raises `AwaitedInTrash` if a deleted overlay, which may come back, needs one of `doomed`."""
    keys = {image.key for image in doomed}
    for image in doomed:
        waiting = [one.filename for one in lineage.dependents(image) if lineage.trashed_from(one) and one.key not in keys]
        if waiting:
            raise AwaitedInTrash(image.path, waiting)


def make_others_durable(lineage: Lineage, doomed: Container[Key]) -> None:
    """Makes images other than `doomed` durable, before images that nothing needs according to them are deleted for good.

    A process that put an overlay on another base may have been killed, with the overlay's new header in memory only: after a
    power cut the overlay would stand on a deleted image. Raises `HostFileError`; `FlushFailed` where a disk does not take it.
    """
    for image in lineage.images.values():
        if image.key not in doomed and registry.named(image.format).backing:
            make_durable_if_recent(image.filename)
