"""The public API: jobs on images with the gate in front, and the guard.

Everything that changes an image asks the gate first (`cowherd.herd.gate`): a sealed image, or one that other overlays depend
on, is refused with `BaseSealed` or `BaseInUse`. `break_dependents=True` is the one way past it. Errors about an image in use
name who has it open. Dependents are looked for in the directory of the image and in `herd`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cowherd.errors import HostFileError
from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.herd.bind import Adopted
from cowherd.herd.bind import adopt as bind
from cowherd.herd.clone import Cloned, clone
from cowherd.herd.doctor.doctor import Diagnosis, doctor
from cowherd.herd.doctor.finding import Finding
from cowherd.herd.faults import (
    BindingContradicted,
    BindingImpossible,
    ContentChanging,
    DonorMissing,
    DriftFound,
    NotSealed,
    UnsealRefused,
)
from cowherd.herd.files import impact_on_files
from cowherd.herd.flatten import flatten
from cowherd.herd.gate import change_anyway, guard_commit, guard_delete, guard_rebase, guard_replace, guard_resize, guard_write
from cowherd.herd.gc import Garbage, gc
from cowherd.herd.impact import Impact, impact
from cowherd.herd.merging.merge import Merged, MergeInterrupted, merge
from cowherd.herd.merging.pending import MergePending
from cowherd.herd.merging.recover import Recovered, recover
from cowherd.herd.merging.steps import MergeFailed
from cowherd.herd.move import Move, move
from cowherd.herd.overview import Overview, overview
from cowherd.herd.plan import NotEnoughSpace, Repaired
from cowherd.herd.promote import Promoted, promote
from cowherd.herd.rebind import rebind
from cowherd.herd.relink import BaseNotFound, Relinked, relink
from cowherd.herd.repair import RepairFailed, repair
from cowherd.herd.retarget import retarget
from cowherd.herd.seal import Sealed, seal, unseal
from cowherd.herd.signing import KeyUnusable, SigningUnavailable, public_key
from cowherd.herd.standing import Settled
from cowherd.herd.trash import Restored, empty_trash, restore, trash, trashed
from cowherd.herd.trashbox import Entry as TrashEntry
from cowherd.herd.tree import Tree, tree
from cowherd.herd.verify import Verified, verify
from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from cowherd.live.holders import naming_holders
from cowherd.ops import commit as commit_job
from cowherd.ops import convert as convert_job
from cowherd.ops import create as create_job
from cowherd.ops import rebase as rebase_job
from cowherd.ops import resize as resize_job
from cowherd.ops.check import CheckNotSupported, CheckReport, check
from cowherd.ops.compare import Comparison, ReadFailed, compare
from cowherd.ops.copying import Progress
from cowherd.ops.info import BackingLoop, ImageInfo, chain_info, image_info
from cowherd.ops.inspect.inspector import Inspector, inspect
from cowherd.ops.inspect.report import Inspection
from cowherd.ops.measure import Measurement, measure
from cowherd.storage.protection import Protection

NewBackingFileError = rebase_job.NewBackingFileError

PathName = str | os.PathLike[str]

__all__ = [
    "Adopted",
    "BackingLoop",
    "BaseNotFound",
    "BindingContradicted",
    "BindingImpossible",
    "CheckNotSupported",
    "CheckReport",
    "Cloned",
    "Comparison",
    "ContentChanging",
    "Diagnosis",
    "Disk",
    "DonorMissing",
    "DriftFound",
    "Finding",
    "Garbage",
    "ImageInfo",
    "Impact",
    "Inspection",
    "Inspector",
    "KeyUnusable",
    "Measurement",
    "MergeFailed",
    "MergeInterrupted",
    "MergePending",
    "Merged",
    "Move",
    "NewBackingFileError",
    "NotEnoughSpace",
    "NotSealed",
    "Overview",
    "Promoted",
    "Protection",
    "Qcow2Options",
    "ReadFailed",
    "Recovered",
    "Relinked",
    "RepairFailed",
    "Repaired",
    "Restored",
    "Sealed",
    "Settled",
    "SigningUnavailable",
    "TrashEntry",
    "Tree",
    "UnsealRefused",
    "Verified",
    "bind",
    "chain_info",
    "check",
    "clone",
    "commit",
    "compare",
    "convert",
    "create",
    "delete",
    "doctor",
    "empty_trash",
    "flatten",
    "gc",
    "image_info",
    "impact",
    "impact_on_files",
    "inspect",
    "measure",
    "merge",
    "move",
    "open",
    "overview",
    "promote",
    "public_key",
    "rebase",
    "recover",
    "relink",
    "repair",
    "resize",
    "restore",
    "retarget",
    "seal",
    "trash",
    "trashed",
    "tree",
    "unseal",
    "verify",
]


@naming_holders()
def open(  # shadows the built-in on purpose: callers write cowherd.open
    path: PathName,
    *,
    format: str | None = None,
    writable: bool = False,
    backing: bool = True,
    force_share: bool = False,
    break_dependents: bool = False,
    herd: Sequence[PathName] = (),
) -> Disk:
    """Opens an image and the chain under it; see `cowherd.image.open.open_disk` for the arguments and errors.

    Raises `BaseSealed` or `BaseInUse` where a writer would change what dependents read.
    """
    if writable and break_dependents:
        change_anyway(path)
    elif writable:
        guard_write(path, herd=herd)
    return open_disk(path, format=format, writable=writable, backing=backing, force_share=force_share)


@naming_holders()
def create(
    path: PathName,
    size: int | None = None,
    *,
    format: str = "qcow2",
    options: Mapping[str, str] | Qcow2Options | None = None,
    backing: str | None = None,
    backing_format: str | None = None,
    unsafe: bool = False,
    break_dependents: bool = False,
    herd: Sequence[PathName] = (),
) -> int:
    """Makes an empty image, replacing a file that is there; see `cowherd.ops.create.create`. Returns the virtual size."""
    if break_dependents:
        change_anyway(path)
    else:
        guard_replace(path, herd=herd)
    return create_job.create(
        path, size, format=format, options=options, backing=backing, backing_format=backing_format, unsafe=unsafe
    )


@naming_holders()
def convert(
    sources: PathName | Sequence[PathName],
    target: PathName,
    *,
    source_format: str | None = None,
    target_format: str = "raw",
    options: Mapping[str, str] | None = None,
    backing: str | None = None,
    backing_format: str | None = None,
    compress: bool = False,
    sparse_size: int = convert_job.DEFAULT_SPARSE_SIZE,
    create_target: bool = True,
    target_is_zero: bool = False,
    force_share: bool = False,
    break_dependents: bool = False,
    herd: Sequence[PathName] = (),
    progress: Progress | None = None,
) -> None:
    """Copies the content of images into another image; see `cowherd.ops.convert.convert`."""
    if break_dependents:
        change_anyway(target)
    else:
        guard_replace(target, herd=herd)
    convert_job.convert(
        sources,
        target,
        source_format=source_format,
        target_format=target_format,
        options=options,
        backing=backing,
        backing_format=backing_format,
        compress=compress,
        sparse_size=sparse_size,
        create_target=create_target,
        target_is_zero=target_is_zero,
        force_share=force_share,
        progress=progress,
    )


@naming_holders()
def commit(
    overlay: PathName,
    *,
    format: str | None = None,
    base: str | None = None,
    keep_content: bool = False,
    break_dependents: bool = False,
    herd: Sequence[PathName] = (),
    progress: Progress | None = None,
) -> commit_job.Committed:
    """Writes an overlay's content into its base; see `cowherd.ops.commit.commit`.

    The overlay's binding to what the base held before is given up: it stands on the new content from then on.
    """
    with open_disk(overlay, format=format) as chain:
        target = chain.layers[commit_job.find_base(chain.layers, base)].file.path
    if break_dependents:
        change_anyway(target)
        change_anyway(overlay)
    else:
        guard_commit(overlay, target, herd=herd)
    done = commit_job.commit(overlay, format=format, base=base, keep_content=keep_content, progress=progress)
    rebind(overlay, herd=herd)
    return done


@naming_holders()
def rebase(
    overlay: PathName,
    backing: str | None,
    *,
    format: str | None = None,
    backing_format: str | None = None,
    unsafe: bool = False,
    compress: bool = False,
    force_share: bool = False,
    break_dependents: bool = False,
    herd: Sequence[PathName] = (),
    progress: Progress | None = None,
) -> rebase_job.Rebased:
    """Gives an overlay another base; see `cowherd.ops.rebase.rebase`.

    The overlay is bound to the new base's seal. An `unsafe` rebase keeps the binding that is there, so that `verify` tells when
    the new base is not what the overlay was made on.
    """
    if break_dependents:
        change_anyway(overlay)
    else:
        guard_rebase(overlay, keeps_content=not unsafe, herd=herd)
    done = rebase_job.rebase(
        overlay,
        backing,
        format=format,
        backing_format=backing_format,
        unsafe=unsafe,
        compress=compress,
        force_share=force_share,
        progress=progress,
    )
    if not unsafe:
        rebind(overlay, herd=herd)
    return done


@naming_holders()
def resize(
    path: PathName,
    size: int,
    *,
    format: str | None = None,
    shrink: bool = False,
    preallocation: str = "off",
    break_dependents: bool = False,
    herd: Sequence[PathName] = (),
) -> None:
    """Changes an image's virtual size; see `cowherd.ops.resize.resize`."""
    if break_dependents:
        change_anyway(path)
    else:
        guard_resize(path, herd=herd)
    resize_job.resize(path, size, format=format, shrink=shrink, preallocation=preallocation)


def delete(path: PathName, *, break_dependents: bool = False, herd: Sequence[PathName] = ()) -> None:
    """Deletes an image file. Raises `BaseSealed` or `BaseInUse` for what others stand on, `HostFileError`."""
    if not break_dependents:
        guard_delete(path, herd=herd)
    try:
        Path(path).unlink()
    except OSError as error:
        raise HostFileError(path, "delete", error) from error
