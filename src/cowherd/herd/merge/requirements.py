"""What must hold before a merge writes anything, so that nothing which can be known beforehand stops it half way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.errors import BaseSealed, ImageInUse, InvalidRequest, SnapshotsWouldChange, UnsupportedFeature
from cowherd.formats import registry
from cowherd.herd.lineage.backing_names import reference_for
from cowherd.herd.lineage.survey import survey_again
from cowherd.herd.merge.chain import new_base_of, stands_on
from cowherd.herd.merge.plan import CONTENT, EMPTY, FORK, NOTHING, PRESERVE
from cowherd.herd.records.faults import DriftFound
from cowherd.herd.records.journal import require_journal_free
from cowherd.herd.records.sidecars import require_liftable, require_sidecars_free
from cowherd.herd.seals.evidence import require_uncontradicted
from cowherd.herd.seals.quick_check import Conditions, record_of
from cowherd.image.snapshots import snapshots_of
from cowherd.storage.filetype import refuse_device_node
from cowherd.storage.opening import require_host
from cowherd.text import printable, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cowherd.formats.layer import Layer
    from cowherd.formats.reference import BackingReference
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.herd.merge.holding import Layers
    from cowherd.herd.merge.plan import MergePlan


_FORK_INSTEAD = "or use --strategy fork, which changes nothing below other overlays"


def require_possible(lineage: Lineage, layers: Layers, plan: MergePlan) -> None:
    """Raises for everything that would stop the merge half way and can be known beforehand."""
    if not registry.named(plan.base.format).writable:
        raise UnsupportedFeature(plan.base.path, f"merging into an image of the format '{plan.base.format}'")
    written = [one.image for one in plan.served] if plan.strategy == PRESERVE else []
    conditions = Conditions(lineage, record_of)
    snapshots: dict[Key, list[str]] = {}
    for image in (plan.overlay, plan.base, *written):
        with layers.alone(image) as disk:
            _require_sound(conditions, disk.layers[0], image)
            snapshots[image.key] = [snapshot.label for snapshot in snapshots_of(disk.layers[0])]
    above = lineage.children(plan.overlay) if plan.keep == NOTHING else ()
    require_uncontradicted(lineage, [plan.overlay, *lineage.children(plan.base), *above], "merge")
    _require_no_snapshots(snapshots, plan, written)
    require_journal_free(plan.base.path)
    _require_liftable(lineage, plan)
    if plan.overlay.seal and plan.keep != CONTENT:
        hit = [dependent.path for dependent in lineage.dependents(plan.overlay)]
        raise BaseSealed(plan.overlay.path, "merge away", hit)
    if plan.keep == NOTHING:
        refuse_device_node(plan.overlay.path, "delete", "--keep empty or --keep content leaves it")
    if plan.strategy == FORK:
        refuse_device_node(plan.base.path, "make a new base beside", "--strategy preserve merges into it")
    if plan.new_size > plan.old_size:
        _require_growth(plan.base)
    _require_repointing(lineage, layers, plan)


def require_nobody_new(lineage: Lineage, plan: MergePlan) -> None:
    """Raises `ImageInUse` if an overlay was made after the plan, which would not protect it from the change."""
    now = survey_again(lineage)
    for image in (plan.base, plan.overlay):
        if {child.key for child in now.children(now.find(image.path))} != {child.key for child in lineage.children(image)}:
            raise ImageInUse(image.path, "write", shared=True)


def _require_room_for_name(layer: Layer, reference: BackingReference) -> None:
    """Raises `InvalidRequest` if the header of an overlay can't hold another backing file's name."""
    if not registry.named(layer.format).backing:
        raise InvalidRequest(f"{shown(require_host(layer.file).path)} is {layer.format} and can't name a backing file")
    layer.require_room_for(reference)


def _require_liftable(lineage: Lineage, plan: MergePlan) -> None:
    """Raises `ProtectedByOthers` for an image that the merge writes to or removes and that somebody else has made immutable."""
    written = [plan.base, *(one.image for one in plan.served if one.is_written)] if plan.strategy == PRESERVE else []
    if plan.keep != CONTENT:
        written += [plan.overlay, *(lineage.children(plan.overlay) if plan.keep == NOTHING else ())]
    for image in written:
        require_liftable(image.path, "merge into, or remove," if image is plan.overlay else "write to", seal=image.seal)
    if plan.strategy == FORK and plan.base.seal:
        require_sidecars_free(plan.fork, shadow=True)


def _require_sound(conditions: Conditions, layer: Layer, image: Image) -> None:
    now = conditions.of(image)
    if image.seal and not now.status.holds:
        raise DriftFound(image.path, now.status, "merge")
    if layer.corrupt:
        raise UnsupportedFeature(image.path, "merging with an image that is marked corrupt")
    if layer.has_enabled_bitmaps():
        raise UnsupportedFeature(image.path, "merging with an image that has persistent bitmaps")


def _require_growth(base: Image) -> None:
    if base.path.is_block_device():
        raise InvalidRequest(f"{shown(base.path)} is a block device smaller than the overlay")


def _require_repointing(lineage: Lineage, layers: Layers, plan: MergePlan) -> None:
    """Requires that the overlays of a removed overlay can stand on the base instead, and see the same there."""
    target = new_base_of(plan)
    if plan.keep == NOTHING:
        for child in lineage.children(plan.overlay):
            with layers.alone(child) as disk:
                _require_room_for_name(disk.layers[0], reference_for(child, target.path, target.format))
                largest = _largest_size(disk.layers[0])
            if plan.new_size > (plan.overlay.size or 0) < largest:
                raise InvalidRequest(
                    f"{shown(child.path)}, or an internal snapshot of it, is larger than the overlay that it stands on, and so "
                    f"is the base: it would see the base's end. Keep the overlay (--keep empty)"
                )
    if plan.keep == EMPTY and not stands_on(lineage, plan.overlay, target):
        _require_room_for_name(layers.of(plan.overlay), reference_for(plan.overlay, target.path, target.format))


def _require_no_snapshots(snapshots: Mapping[Key, Sequence[str]], plan: MergePlan, written: Sequence[Image]) -> None:
    """Raises `SnapshotsWouldChange` for the overlay and for images `written` to, `InvalidRequest` for a base with its own.

    An overlay's snapshots may show the base where the overlay does not, and nothing can be written into snapshots.
    """
    below = [(image.path, name) for image in written for name in snapshots[image.key]]
    if below:
        raise SnapshotsWouldChange(plan.base.path, "merge into", below, _FORK_INSTEAD)
    own = [(plan.overlay.path, name) for name in snapshots[plan.overlay.key]]
    if own:
        raise SnapshotsWouldChange(plan.overlay.path, "merge", own, "and merge then")
    names = snapshots[plan.base.key]
    if names:
        raise InvalidRequest(
            f"{shown(plan.base.path)} has internal snapshots of its own ({len(names)}, '{printable(names[0])}' among them): "
            f"such an image is not merged into. Delete them ('qemu-img snapshot -d'), and merge then"
        )


def _largest_size(layer: Layer) -> int:
    """Returns the size of the largest disk that an image may show: as it is now, or with one of its snapshots applied."""
    return max([layer.size, *(snapshot.disk_size for snapshot in snapshots_of(layer))])
