"""The changes of images that the guard watches: each function calls the gate first, and then `ops` or `image`.

A function imports what it needs when it is called, so that a command loads no more than its own job.
"""

from __future__ import annotations

import contextlib
import os

from cowherd.errors import HostFileError
from cowherd.formats import registry
from cowherd.live.holders import naming_holders
from cowherd.paths import path_names
from cowherd.sizes import DEFAULT_SPARSE_SIZE, size_in_bytes
from cowherd.storage.filetype import refuse_device_node
from cowherd.storage.presence import is_there
from cowherd.urls import Url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cowherd.formats.qcow2.options import Qcow2Options
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.image.disk import Disk
    from cowherd.ops.commit import Committed
    from cowherd.ops.rebase.rebased import Rebased
    from cowherd.paths import PathName, PathNames
    from cowherd.progress import Progress
    from cowherd.sizes import Size
    from cowherd.storage.holding import Holding
    from cowherd.urls import ImageName


@naming_holders()
def open(  # shadows the built-in on purpose: callers write cowherd.open
    path: PathName,
    *,
    format: str | None = None,
    writable: bool = False,
    backing: bool = True,
    force_share: bool = False,
    break_dependents: bool = False,
    herd: PathNames = (),
) -> Disk:
    """Opens an image and the chain under it; see `cowherd.image.open.open_disk` for the arguments and errors.

    Raises `BaseSealed` or `BaseInUse` if `writable` and a write would change what dependents read.
    """
    from cowherd.herd.gate.gate import announce_override, guard_write
    from cowherd.image.open import open_disk

    herd = path_names(herd)

    if writable and break_dependents:
        announce_override(path)
    elif writable:
        guard_write(path, herd=herd)
    if writable and not force_share:
        _require_free(changed=[path], action="write to")
    return open_disk(path, format=format, writable=writable, backing=backing, force_share=force_share)


@naming_holders()
def create(
    path: PathName,
    size: Size | None = None,
    *,
    format: str = registry.OVERLAY,
    options: Mapping[str, str] | Qcow2Options | None = None,
    backing: str | None = None,
    backing_format: str | None = None,
    unsafe: bool = False,
    break_dependents: bool = False,
    herd: PathNames = (),
) -> int:
    """Makes an empty image, which replaces an existing file; see `cowherd.ops.create.create`. Returns the virtual size."""
    from cowherd.ops import create as job

    herd = path_names(herd)
    size = None if size is None else size_in_bytes(size)

    _guard_replace(path, herd, break_dependents=break_dependents)
    if is_there(path):
        _require_free(changed=[path], action="replace")
    return job.create(path, size, format=format, options=options, backing=backing, backing_format=backing_format, unsafe=unsafe)


@naming_holders()
def convert(
    sources: ImageName | Sequence[ImageName],
    target: PathName,
    *,
    source_format: str | None = None,
    target_format: str = registry.NEW_TARGET,
    options: Mapping[str, str] | None = None,
    backing: str | None = None,
    backing_format: str | None = None,
    compress: bool = False,
    sparse_size: Size = DEFAULT_SPARSE_SIZE,
    create_target: bool = True,
    target_is_zero: bool = False,
    force_share: bool = False,
    break_dependents: bool = False,
    herd: PathNames = (),
    progress: Progress | None = None,
) -> None:
    """Copies the content of images into another image; see `cowherd.ops.convert.convert.convert`."""
    from cowherd.ops.convert import convert as job

    herd = path_names(herd)

    _guard_replace(target, herd, break_dependents=break_dependents, in_place=not create_target)
    if is_there(target) or not force_share:
        _require_free(changed=[target], stable=() if force_share else _local(sources), action="replace")
    job.convert(
        sources,
        target,
        source_format=source_format,
        target_format=target_format,
        options=options,
        backing=backing,
        backing_format=backing_format,
        compress=compress,
        sparse_size=size_in_bytes(sparse_size),
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
    herd: PathNames = (),
    progress: Progress | None = None,
) -> Committed:
    """Writes an overlay's content into its base; see `cowherd.ops.commit.commit`.

    The overlay loses its binding to the former content of the base, since it depends on the new content from then on. Raises
    `SnapshotsWouldChange` if one of its internal snapshots would show other content.
    """
    from cowherd.herd.gate.gate import announce_override, guard_commit
    from cowherd.herd.seals.bind import rebind, unbound
    from cowherd.image.reading import open_reading
    from cowherd.ops.commit_target import find_base
    from cowherd.storage.holding import Holding
    from cowherd.storage.opening import require_host

    herd = path_names(herd)

    with Holding() as held:
        with open_reading(overlay, format=format, opener=held.keep) as chain:
            depth = find_base(chain.layers, base)
            files = [require_host(layer.file).path for layer in chain.layers]
        target, lineage = files[depth], None
        if break_dependents:
            announce_override(target)
            announce_override(overlay)
        else:
            lineage = guard_commit(overlay, target, herd=herd, held=held)
        _require_free(changed=files[: depth + 1], stable=files[depth + 1 :], held=held)
        _require_not_saved([target], "commit into")
        from cowherd.ops import commit as job

        with _keeping_seals_above(overlay, lineage), unbound(overlay, target, held.open):
            done = job.commit(
                overlay,
                format=format,
                base=base,
                keep_content=keep_content,
                keep_snapshots=not break_dependents,
                opener=held.open,
                progress=progress,
            )
            rebind(overlay, held)
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
    herd: PathNames = (),
    progress: Progress | None = None,
) -> Rebased:
    """Gives an overlay another base; see `cowherd.ops.rebase.rebase.rebase`.

    If the old and the new base are both sealed, and as their seals left them, the seals say which blocks differ: it reads no
    others, and if no block differs, it changes only the name. It binds the overlay to the new base's seal. An `unsafe` rebase
    keeps the present binding, so that `verify` reports a new base with other content than the overlay was made on. Raises
    `SnapshotsWouldChange` if an internal snapshot of the overlay would show other content.
    """
    from cowherd.formats.reference import BackingReference
    from cowherd.herd.gate.gate import announce_override, guard_rebase
    from cowherd.herd.records.binding import EXTENSION_TYPE
    from cowherd.herd.seals.bind import rebind
    from cowherd.herd.seals.sealed_pair import bases_of_rebase
    from cowherd.ops.rebase import rebase as job
    from cowherd.storage.holding import Holding

    herd = path_names(herd)

    with Holding() as held:
        lineage = None
        if break_dependents:
            announce_override(overlay)
        else:
            lineage = guard_rebase(overlay, keeps_content=not unsafe, herd=herd, held=held)
        reads = [] if unsafe or force_share else [overlay, *_new_base(overlay, backing, backing_format)]
        _require_free(changed=[overlay], stable=reads, action="rebase" if unsafe else "", held=held)
        bases = None
        if backing and not unsafe and not force_share:
            bases = bases_of_rebase(overlay, BackingReference(backing, backing_format), lineage, herd=herd, held=held)
        equal = bases is not None and bases.is_equal
        with _keeping_seals_above(overlay, None if unsafe else lineage):
            done = job.rebase(
                overlay,
                backing,
                format=format,
                backing_format=backing_format,
                unsafe=unsafe or equal,
                differs=bases.differs if bases and not equal else None,
                compress=compress,
                force_share=force_share,
                keep_snapshots=not break_dependents,
                without=None if unsafe or equal else EXTENSION_TYPE,
                opener=held.open,
                progress=progress,
            )
            if not unsafe:
                rebind(overlay, held)
        return done


@naming_holders()
def resize(
    path: PathName,
    size: Size,
    *,
    format: str | None = None,
    shrink: bool = False,
    preallocation: str = "off",
    break_dependents: bool = False,
    herd: PathNames = (),
) -> None:
    """Changes an image's virtual size; see `cowherd.ops.resize.resize`."""
    from cowherd.herd.gate.gate import announce_override, guard_resize
    from cowherd.ops import resize as job

    herd, size = path_names(herd), size_in_bytes(size)

    if break_dependents:
        announce_override(path)
    else:
        guard_resize(path, herd=herd)
    _require_free(changed=[path], action="resize")
    job.resize(path, size, format=format, shrink=shrink, preallocation=preallocation)


def delete(path: PathName, *, break_dependents: bool = False, herd: PathNames = ()) -> None:
    """Deletes an image file. Raises `BaseSealed` or `BaseInUse` if it is sealed or has dependents, `HostFileError`."""
    herd = path_names(herd)
    refuse_device_node(path, "delete")
    if not break_dependents:
        from cowherd.herd.gate.gate import guard_delete

        guard_delete(path, herd=herd)
    _require_free(changed=[path], action="delete")
    try:
        os.unlink(path)
    except OSError as error:
        raise HostFileError(path, "delete", error) from error


def _keeping_seals_above(overlay: PathName, lineage: Lineage | None) -> contextlib.AbstractContextManager[None]:
    """Updates the seals of an overlay's dependents after the block, so that they know the files as they are then.

    The block must keep the overlay's content.

    `lineage`: the herd as the gate has seen it, None where no seal is to be kept.
    """
    image = lineage.known(overlay) if lineage else None
    if lineage is None or image is None or image.seal or not any(dependent.seal for dependent in lineage.dependents(image)):
        return contextlib.nullcontext()
    from cowherd.herd.seals.upkeep import keeping_seals

    return keeping_seals(lineage, image)


def _guard_replace(path: PathName, herd: Sequence[PathName], *, break_dependents: bool, in_place: bool = False) -> None:
    """Calls the gate before a file is replaced, or with `in_place` written to. For a new file it need not even load the gate."""
    if break_dependents:
        from cowherd.herd.gate.gate import announce_override

        announce_override(path)
    elif is_there(path):
        from cowherd.herd.gate.gate import guard_replace, guard_write

        (guard_write if in_place else guard_replace)(path, herd=herd)


def _require_free(
    changed: Sequence[PathName], stable: Sequence[PathName] = (), action: str = "", held: Holding | None = None
) -> None:
    """Raises `ImageInUse` unless the files are free. `stable` files are only read, and their chains count too.

    With `held` their locks are held there from then on. `action`: the content of the changed files changes, so it also raises
    `DomainSaved` for the disks of saved machines.
    """
    from cowherd.herd.machines.in_use import chain_below, require_free

    require_free(changed, [file for path in stable for file in (path, *chain_below(path))], held=held)
    if action:
        _require_not_saved(changed, action)


def require_stable(path: PathName) -> None:
    """Raises `ImageInUse` if a process writes to an image that is about to be copied, or to its backing files."""
    _require_free((), [path])


def _require_not_saved(changed: Sequence[PathName], action: str) -> None:
    from cowherd.herd.machines.domains import require_not_saved

    require_not_saved(changed, action)


def _new_base(overlay: PathName, backing: str | None, backing_format: str | None) -> Sequence[PathName]:
    from cowherd.errors import BackingFileError
    from cowherd.formats.reference import BackingReference
    from cowherd.image.backing import resolve

    try:
        return [resolve(overlay, BackingReference(backing, backing_format)).name] if backing else []
    except BackingFileError:  # the job itself reports what is wrong with the name
        return []


def _local(sources: ImageName | Sequence[ImageName]) -> Sequence[PathName]:
    """Returns those sources that are files of this host: who changes another one is noticed by what is read of it."""
    several = [sources] if isinstance(sources, str | os.PathLike | Url) else sources
    return [path for path in several if not isinstance(path, Url)]
