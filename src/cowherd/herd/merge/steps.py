"""The steps of a merge. Each leaves every disk of the herd but the base as it reads, and each can be done again.

Why nothing is lost, whenever a step is cut short: until the overlay is given up, which is last, it holds all that it held, and so
reads the same whatever the base shows underneath; and before the base changes, its other overlays hold what they would lose.
Images are opened without locks of their own; the caller holds them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cowherd.errors import CowherdError, HostFileError, InvalidRequest
from cowherd.formats.qcow2.image import Qcow2
from cowherd.formats.reference import BackingReference
from cowherd.herd.lineage.backing_names import reference_for
from cowherd.herd.merge.holding import stacked
from cowherd.herd.merge.witness import bears_witness
from cowherd.herd.records.binding import Binding, set_binding_if_it_fits
from cowherd.herd.records.digest import digest_disk
from cowherd.herd.repair.preserve import whole_steps
from cowherd.herd.seals.held import Held
from cowherd.herd.seals.seal import reseal
from cowherd.herd.seals.unseal import unprotected
from cowherd.ops.commit import copy_down
from cowherd.storage.atomic import sync_directory
from cowherd.storage.filetype import refuse_device_node
from cowherd.storage.ticks import identity_after_tick
from cowherd.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.extents import Ranges
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.merge.plan import MergePlan, Served
    from cowherd.herd.records.digest import BlockDigests
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.herd.repair.plan import Writes
    from cowherd.progress import Progress

_CHUNK = 1 << 20


class MergeFailed(CowherdError):
    """What was written does not read back as planned, or the herd is not as the journal says. Attributes: `image`, `problem`."""

    exit_code = 4

    def __init__(self, image: Path, problem: str):
        self.image, self.problem = image, problem

    def __str__(self) -> str:
        return f"{shown(self.image)}: {self.problem}; the overlay is kept, and so is the journal of the merge"


def copy_up(lineage: Lineage, writes: Writes, progress: Progress | None) -> None:
    """Writes what an overlay shows of its base in some ranges into the overlay itself, durably; it goes on showing that."""
    with unprotected(writes.image), stacked(lineage.chain(writes.image), writable=True) as disk:
        step = max(_CHUNK, disk.layers[0].granularity)
        buffer = memoryview(bytearray(step))
        version_2 = isinstance(disk.layers[0], Qcow2) and disk.layers[0].header.version < 3
        for start, end in whole_steps(writes.ranges, step):
            part = buffer[: end - start]
            disk.readinto(start, part)
            if version_2 or np.frombuffer(part, np.uint8).any():
                disk.write(start, part)
            else:
                disk.zero(start, len(part))
            if progress:
                progress(end, disk.size)


def apply_down(lineage: Lineage, plan: MergePlan, target: Image, progress: Progress | None) -> None:
    """Writes what the images above hold into `target`, which is the base or its copy, durably."""
    with unprotected(target), stacked([target, *lineage.chain(plan.base)[1:]], writable=True) as under:
        if under.size < plan.new_size:
            under.resize(plan.new_size)
        with stacked(plan.above) as over:
            copy_down(plan.down, over, under, progress)


def verify_content(below: Sequence[Image], predicted: BlockDigests, progress: Progress | None) -> Held:
    """Reads an image with its chain again, as it is on the disk now, and compares it. Raises `MergeFailed` where it differs."""
    identity = identity_after_tick(below[0].path)
    with stacked(below) as disk:
        digests = digest_disk(disk, progress)
    if digests.content_digest != predicted.content_digest:
        raise MergeFailed(below[0].path, "it does not hold what was merged into it")
    return Held(digests, identity)


def verify_served(lineage: Lineage, served: Sequence[Served], changed: Ranges) -> None:
    """Raises `MergeFailed` if a direct overlay of the base shows other bytes than it did when the merge was planned."""
    for one in served:
        with stacked(lineage.chain(one.image)) as disk:
            if bears_witness(disk, changed, whole=one.is_written) != one.witness:
                raise MergeFailed(one.image.path, "it does not show what it did before the merge")


def reseal_base(lineage: Lineage, base: Image, held: Held) -> SealRecord | None:
    """Makes the seal of the base, if it has one, say what it holds now; returns its record."""
    return reseal(lineage, base, held) if base.seal else None


def bind_to(overlay: Image, record: SealRecord | None) -> list[tuple[Path, str]]:
    """Binds an overlay of a sealed base to its content; returns why that could not be, if so."""
    binding = Binding.to(record) if record else None
    if binding is None or overlay.binding == binding:
        return []
    with unprotected(overlay), stacked([overlay], writable=True) as disk:
        return set_binding_if_it_fits(disk, binding)


def put_on(overlay: Image, base: Image, record: SealRecord | None) -> list[tuple[Path, str]]:
    """Gives an overlay another base, whose content must be what the overlay shows below its own, and binds it to that."""
    with unprotected(overlay), stacked([overlay], writable=True) as disk:
        # before the name: cut short between the two, the overlay is still met where it stood, and put on its base again
        left = set_binding_if_it_fits(disk, Binding.to(record) if record else None)
        disk.set_backing(reference_to(base, overlay))
    return left


def reference_to(base: Image, overlay: Image) -> BackingReference:
    """Returns how `overlay` is to name `base`."""
    return reference_for(overlay, base.path, base.format)


def require_room_for_name(overlay: Image, reference: BackingReference) -> None:
    """Raises `InvalidRequest` if the header of an overlay can't hold another backing file's name."""
    with stacked([overlay]) as disk:
        layer = disk.layers[0]
        if not isinstance(layer, Qcow2):
            raise InvalidRequest(f"{shown(overlay.path)} is {layer.format} and can't name a backing file")
        layer.header.with_backing(reference).pack()


def empty_overlay(overlay: Image) -> None:
    """Makes an overlay hold nothing, so that its base shows everywhere."""
    with unprotected(overlay), stacked([overlay], writable=True) as disk:
        layer = disk.layers[0]
        if isinstance(layer, Qcow2):
            layer.deallocate_all()


def delete_image(image: Image) -> None:
    """Deletes the file of an image under all its names, durably."""
    for name in image.names:
        refuse_device_node(name, "delete")
        try:
            name.unlink(missing_ok=True)
        except OSError as error:
            raise HostFileError(name, "delete", error) from error
        sync_directory(name.parent)
