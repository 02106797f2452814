"""The steps of a merge on files that no machine has open. Images are opened without locks of their own; the caller holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cowherd.errors import HostFileError
from cowherd.herd.lineage.backing_names import reference_for
from cowherd.herd.merge.faults import MergeFailed
from cowherd.herd.merge.holding import Layers, stacked
from cowherd.herd.merge.steps import Steps
from cowherd.herd.merge.witness import bears_witness
from cowherd.herd.records.binding import Binding, set_binding_if_it_fits
from cowherd.herd.records.digest import digest_disk
from cowherd.herd.repair.preserve import whole_steps
from cowherd.herd.seals.held import Held
from cowherd.herd.seals.seal import reseal
from cowherd.herd.seals.unseal import unprotected
from cowherd.image.disk import Disk
from cowherd.ops.commit import copy_down
from cowherd.storage.atomic import sync_directory
from cowherd.storage.filetype import refuse_device_node
from cowherd.storage.identity import make_lasting
from cowherd.storage.ticks import identity_after_tick
from cowherd.storage.writeback import WriteBehind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.extents import Ranges
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.merge.plan import MergePlan, Served
    from cowherd.herd.merge.steps import Left
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.herd.repair.plan import Writes
    from cowherd.progress import Progress
    from cowherd.storage.holding import Holding

_CHUNK = 1 << 20


class Offline(Steps):
    """Changes the files themselves. Images that don't change are read through the descriptors that hold their locks, `held`."""

    def __init__(self, held: Holding) -> None:
        self._held = held

    def serve(self, served: Sequence[Served], below: Sequence[Image], progress: Progress | None) -> None:
        """Makes units that are all zeros zero without data, where the format can."""
        with Layers(self._held) as layers:
            for one in served:
                if one.is_written:
                    self._copy_up(one.writes, layers.disk(below), progress)
                else:
                    make_lasting(one.image.path)

    def apply_down(self, plan: MergePlan, below: Sequence[Image], progress: Progress | None) -> None:
        """The base grows first, if the overlay is larger."""
        target = below[0]
        with Layers(self._held) as layers, unprotected(target), self._writable(target) as alone:
            under = Disk([*alone.layers, *layers.disk(below[1:]).layers], writable=True)
            if under.size < plan.new_size:
                under.resize(plan.new_size)
            copy_down(plan.down, layers.disk(plan.above), under, progress)

    def verify(self, plan: MergePlan, below: Sequence[Image], served: Sequence[Served], progress: Progress | None) -> Held:
        """Reads all tables anew: an image that was opened before it was written to may know outdated ones.

        The result counts for the file as it was before the first byte was read.
        """
        identity = identity_after_tick(below[0].path)
        with Layers(self._held) as layers:
            under = layers.disk(below)
            digests = digest_disk(under, progress)
            if digests.content_digest != plan.predicted.content_digest:
                raise MergeFailed(below[0].path, "it does not hold what was merged into it")
            for one in served:
                _verify_served(one, layers, under, plan.changed)
        return Held(digests, identity)

    def reseal(self, lineage: Lineage, base: Image, held: Held) -> SealRecord | None:
        """Writes the next generation of the seal, with the protection and the shadow that it had."""
        return reseal(lineage, base, held) if base.seal else None

    def bind(self, overlay: Image, record: SealRecord | None) -> list[Left]:
        """Writes the header, unless it has this binding already."""
        binding = Binding.to(record) if record else None
        if binding is None or overlay.binding == binding:
            return []
        with unprotected(overlay), self._writable(overlay) as disk:
            return set_binding_if_it_fits(disk, binding)

    def put_on(self, overlay: Image, base: Image, record: SealRecord | None) -> list[Left]:
        """Writes the binding first: cut short between the two, the overlay still has its old base, and another run moves it."""
        with unprotected(overlay), self._writable(overlay) as disk:
            left = set_binding_if_it_fits(disk, Binding.to(record) if record else None)
            disk.set_backing(reference_for(overlay, base.path, base.format))
        return left

    def empty(self, overlay: Image) -> None:
        """Gives up all clusters of the overlay."""
        with unprotected(overlay), self._writable(overlay) as disk:
            disk.layers[0].deallocate_all()

    def delete(self, overlay: Image) -> None:
        """Unlinks it."""
        delete_image(overlay)

    def _writable(self, image: Image) -> Disk:
        """Opens an image alone, for writing; it is opened once for all steps that write to it."""
        return stacked([image], writable=True, opener=self._held.open)

    def _copy_up(self, writes: Writes, under: Disk, progress: Progress | None) -> None:
        """Writes what an overlay shows of its base, which is open as `under`, into the overlay itself."""
        with unprotected(writes.image), self._writable(writes.image) as alone:
            disk = Disk([*alone.layers, *under.layers], writable=True)
            step = max(_CHUNK, disk.layers[0].granularity)
            buffer = memoryview(bytearray(step))
            behind = WriteBehind(disk.layers[0].data.host)
            stores_zeros = not disk.layers[0].has_zero_clusters
            for start, end in whole_steps(writes.ranges, step):
                part = buffer[: end - start]
                disk.readinto(start, part)
                if stores_zeros or np.frombuffer(part, np.uint8).any():
                    disk.write(start, part)
                    behind.wrote(len(part))
                else:
                    disk.zero(start, len(part))
                if progress:
                    progress(end, disk.size)


def delete_image(image: Image) -> None:
    """Deletes the file of an image under all its names, durably. Raises `HostFileError`; a name that is gone is no error."""
    for name in image.names:
        refuse_device_node(name, "delete")
        try:
            name.unlink(missing_ok=True)
        except OSError as error:
            raise HostFileError(name, "delete", error) from error
        sync_directory(name.parent)


def _verify_served(one: Served, layers: Layers, under: Disk, changed: Ranges) -> None:
    with layers.alone(one.image) as alone:
        disk = Disk([*alone.layers, *under.layers], writable=False)
        if bears_witness(disk, changed, whole=one.is_written) != one.witness:
            raise MergeFailed(one.image.path, "it does not show what it did before the merge")
