"""Sealing an image: its guest content is recorded block by block, and its file protected.

The content is the whole guest view, read through the image's own backing files; what changes below it shows as its drift.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from pathlib import Path

from cowherd.errors import CowherdError, HostFileError, ImageFormatError
from cowherd.herd.binding import Binding, write_binding
from cowherd.herd.book.query import remember_name
from cowherd.herd.book.seals import places_of, remember_overlay
from cowherd.herd.condition import condition, record_of
from cowherd.herd.faults import ContentChanging, DriftFound, NotSealed, UnsealRefused
from cowherd.herd.in_use import require_free
from cowherd.herd.lineage import Lineage, survey_around
from cowherd.herd.merging.pending import require_none
from cowherd.herd.ownership import (
    believed,
    is_proven_seal,
    mode_given_back,
    require_liftable,
    require_sidecars_free,
    set_immutable,
    sidecars,
)
from cowherd.herd.requirements import require_one_format, require_seen
from cowherd.herd.sealfile import SUFFIX, ChainFile, SealRecord, read_digests, read_record, seal_path, write_seal
from cowherd.herd.sealplace import CANT_WRITE, is_kept, look_again, place_for
from cowherd.herd.shadow import NewShadow, keep_shadow, renew_shadow, shadow_of
from cowherd.herd.soundness import require_sound_chain
from cowherd.herd.status import Status
from cowherd.live.holders import naming_holders
from cowherd.storage import protection
from cowherd.storage.attributes import Attributes
from cowherd.storage.filetype import is_device
from cowherd.storage.identity import FileIdentity, make_lasting
from cowherd.storage.presence import is_there
from cowherd.storage.protection import Protection
from cowherd.storage.transfer import take_name
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cowherd.herd.digest import BlockDigests, Progress
    from cowherd.herd.scan import Image
    from cowherd.image.link import Link

_LONGEST_TICK_SECONDS = 0.02
_COARSE_CLOCK = 5  # CLOCK_REALTIME_COARSE, by which file systems stamp times; Python has no name for it


class Sealed(NamedTuple):
    """What sealing did.

    `wanted` is the level asked for, `record.level` the one reached; `shadow_problem` says why a shadow that was asked for is not
    there; `anew` is False where a seal of the same content was there before. `bound` are the overlays that have a binding now,
    `not_bound` those that could not get one, with the reason.
    """

    image: Path
    seal: Path
    record: SealRecord
    wanted: Protection
    anew: bool
    shadow_problem: str | None = None
    bound: tuple[Path, ...] = ()
    not_bound: tuple[tuple[Path, str], ...] = ()


class Held(NamedTuple):
    """Content as it was read, and the identity of the image's file at that time."""

    digests: BlockDigests
    identity: FileIdentity


def seal(
    image: str | os.PathLike[str],
    *,
    level: Protection = Protection.RECORDED,
    image_format: str | None = None,
    shadow: bool = False,
    bind: bool = False,
    sign_with: str | os.PathLike[str] | None = None,
    herd: Sequence[str | os.PathLike[str]] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> Sealed:
    """Seals `image` as it is now and brings its file to `level`, or as near to it as the host allows.

    With `shadow` a reflink copy is kept beside it, with `bind` the overlays of it in the herd get a binding. `sign_with` is the
    file of an Ed25519 key to sign the seal with (`SigningUnavailable`, `KeyUnusable`). Sealing an image again changes its level,
    and nothing else, if its content is as sealed. Raises `DriftFound` if it is not, `ImageInUse` if a process has the image open
    for writing, `ContentChanging` if it is written to meanwhile, `NameTaken` if something else has its seal's or shadow's name,
    and, unless `force`, `NotSound` for one that is not sealed and is damaged, cut off, empty, or no disk image.
    """
    lineage = survey_around(image, herd=herd)
    base = lineage.find(image, image_format)
    require_none(lineage, [base], "seal")
    if not force:
        require_sound_chain(lineage, base, "seal", stated=image_format is not None)
    sign = _signer(sign_with) if sign_with is not None else None
    return seal_found(lineage, base, level, shadow=shadow, bind=bind, sign=sign, progress=progress)


def seal_found(
    lineage: Lineage,
    base: Image,
    level: Protection,
    *,
    shadow: bool,
    bind: bool = False,
    sign: Callable[[SealRecord], SealRecord] | None = None,
    progress: Progress | None = None,
) -> Sealed:
    """Does the same to an image of a lineage that is known, also amid a merge. Raises as `seal`."""
    require_one_format(lineage, [base], "seal")
    before = record_of(base)
    if before is None or shadow:
        require_sidecars_free(base.expected_seal.removesuffix(SUFFIX), shadow=shadow)
    require_free(stable=lineage.chain(base), locks=False)
    with held_content(lineage, base, progress) as held:
        require_free(stable=lineage.chain(base), locks=False)
        if before and before.content_digest != held.digests.content_digest:
            raise DriftFound(base.path, Status.DRIFTED, "seal it over the content that its seal holds")
        outcome = _record(lineage, base, held, before, level, shadow=shadow)
        if sign:
            outcome = outcome._replace(record=sign(outcome.record))
            write_seal(outcome.seal, outcome.record, held.digests)
    if bind:
        bound, not_bound = _bind_children(lineage, base, outcome.record)
        return outcome._replace(bound=bound, not_bound=not_bound)
    return outcome


def _signer(key: str | os.PathLike[str]) -> Callable[[SealRecord], SealRecord]:
    from cowherd.herd.signing import signer

    return signer(key)


def reseal(lineage: Lineage, image: Image, held: Held) -> SealRecord:
    """Makes what was read of `image` what its seal says; protection and shadow stay as they were.

    A new content makes a new generation. Raises `NotSealed`, `ContentChanging` if the file was written to since it was read.
    """
    before = record_of(image)
    if before is None:
        raise NotSealed(image.path)
    return _record(lineage, image, held, before, before.level, shadow=before.shadow is not None).record


def refresh(lineage: Lineage, image: Image, held: Held) -> None:
    """Records the files of `image`, whose content was just found to be as sealed, as they are now; protection is put back.

    Raises `DriftFound` if the content is not as sealed, `ContentChanging` if the file was written to since it was read.
    """
    path, record = _existing(image)
    record = believed(record, os.stat(image.path), path)
    if record.content_digest != held.digests.content_digest:
        raise DriftFound(image.path, Status.DRIFTED, "record it as unchanged")
    protection.protect(image.path, record.level)
    identity = _unwritten_since(image.path, held.identity)
    write_seal(path, record._replace(identity=identity, chain=_chain_files(lineage, image)), held.digests)


def unseal(image: str | os.PathLike[str], *, force: bool = False, herd: Sequence[str | os.PathLike[str]] = ()) -> Path:
    """Gives up the seal of `image`, its shadow and its protection; the file gets its mode from before back.

    A protection that somebody else gave it stays: where that keeps the mode from being given back, `ProtectedByOthers` is raised,
    unless `force`. Returns where the seal was. Raises `UnsealRefused` while overlays in the herd depend on it, unless `force`;
    `NotSealed`. An image that is gone can be unsealed too.
    """
    if not is_there(image):
        return _drop_orphan(Path(image), force=force, herd=herd)
    lineage = survey_around(image, herd=herd)
    base = lineage.find(image)
    require_none(lineage, [base], "unseal")
    dependents = lineage.dependents(base)
    if dependents and not force:
        raise UnsealRefused(base.path, [dependent.path for dependent in dependents])
    if not force:
        require_seen(lineage, base, "unseal")
    if base.seal is None:
        raise NotSealed(base.path)
    path = Path(base.seal)
    _restore_mode(base, force=force)
    _take_sidecars(path)
    return path


def _take_sidecars(seal: Path) -> None:
    """Removes a seal, and before it the shadow that it proves."""
    if is_kept(seal):
        take_name(seal)
        look_again()
        return
    for path in sidecars(os.fspath(seal).removesuffix(SUFFIX)):
        take_name(Path(path))


@contextlib.contextmanager
def keeping_content(lineage: Lineage, image: Image) -> Iterator[None]:
    """Lets the block write to the file of `image`, sealed or not, in ways that keep its guest content.

    Protection is lifted for the time, and the seal then says what the file has become. Raises `DriftFound` if the image is
    not as its seal left it before.
    """
    if image.seal is None:
        yield
        return
    now = condition(lineage, image)
    if now.status is not Status.OK:
        raise DriftFound(image.path, now.status, "write to it")
    path, record = _existing(image)
    _, digests = read_digests(path)
    with unprotected(image, record):
        yield
    record_files(lineage, image, record, digests)


def record_files(lineage: Lineage, image: Image, record: SealRecord, digests: BlockDigests) -> None:
    """Writes a seal whose content is still right, with the files of `image` and of its chain as they are now."""
    if image.seal:
        record = believed(record, os.stat(image.path), image.seal)
    record = record._replace(identity=_lasting(image.path), chain=_chain_files(lineage, image))
    write_seal(image.expected_seal, record, digests)


@contextlib.contextmanager
def unprotected(image: Image, record: SealRecord | None) -> Iterator[None]:
    """Lifts the protection that cowherd gave a sealed image, as its `record` tells, while the block writes to its file; it is put
    back however that ends. One that somebody else gave is left, with `ProtectedByOthers` if nothing can be written then."""
    require_liftable(image.path, "write to", seal=image.seal)
    if record is None or record.level is Protection.RECORDED:
        yield
        return
    writable_before = bool(record.mode_before & stat.S_IWUSR)
    level = believed(record, os.stat(image.path), image.expected_seal).level
    with protection.written(image.path, level, image.key, owner_may_write=writable_before):
        yield


def _restore_mode(image: Image, *, force: bool) -> None:
    try:
        record = record_of(image)
    except ImageFormatError:
        if not force:
            raise
        return  # a damaged seal no longer says what the mode was
    if record and record.level > Protection.RECORDED and not _was_immutable(image, record):
        if not force:
            require_liftable(image.path, "take the protection from", seal=image.seal, forceable=True)
        _lower(image, record)


def _was_immutable(image: Image, record: SealRecord) -> bool:
    """Whether the file was immutable before it was sealed: then sealing can't have changed its mode, and took nothing away."""
    return record.immutable_before and protection.is_immutable(image.path)


def _lower(image: Image, record: SealRecord) -> None:
    """Takes away the protection that cowherd gave, as far as that is certain, and makes it last."""
    info, seal = os.stat(image.path), image.expected_seal
    if protection.is_immutable(image.path) and not set_immutable(record, info, seal):
        return
    protection.unprotect(image.path, lambda now: mode_given_back(now, record, info, seal), image.key)
    make_lasting(image.path)


def _existing(image: Image) -> tuple[Path, SealRecord]:
    seal, record = image.seal, record_of(image)
    if seal is None or record is None:
        raise NotSealed(image.path)
    return Path(seal), record


@contextlib.contextmanager
def held_content(lineage: Lineage, image: Image, progress: Progress | None = None) -> Iterator[Held]:
    """Digests the content of `image` and gives it to the block, during which the image's locks keep QEMU from writing.

    Raises `ImageInUse` if a process has it open for writing, `ContentChanging` if it was written to while it was read, or if the
    lineage does not know the files that its content comes from: the host may have failed when it was looked at.
    """
    from dataclasses import replace

    from cowherd.herd.digest import digest_disk
    from cowherd.herd.opaque import is_opaque, open_content

    of_file = is_opaque(image)
    with naming_holders(), open_content(image, of_file=of_file) as disk:
        with _unwritten(lineage, image, disk.layers, of_file=of_file) as identity:
            digests = replace(digest_disk(disk, progress), of_file=of_file)
        yield Held(digests, identity)


def confirms(lineage: Lineage, image: Image, content: bytes, progress: Progress | None = None) -> bool:
    """Returns whether the content digest of `image` is `content`, if that can be told without arrays.

    False if it is another one, or the image is not simple enough: then `held_content` tells. Raises as that.
    """
    from cowherd.formats.outline import NotPlain
    from cowherd.herd.opaque import is_opaque
    from cowherd.herd.plain import outlined_digest
    from cowherd.image.outline import open_outline

    if is_opaque(image):
        return False
    try:
        with (
            naming_holders(),
            open_outline(image.path, format=image.format) as outline,
            _unwritten(lineage, image, outline.layers),
        ):
            return outlined_digest(outline, progress) == content
    except NotPlain:
        return False


@contextlib.contextmanager
def _unwritten(lineage: Lineage, image: Image, layers: Sequence[Link], *, of_file: bool = False) -> Iterator[FileIdentity]:
    """Gives the identity of an image's file to a block that reads its open `layers`.

    Raises `ContentChanging` if these are not the files that the lineage knows, or if one was written to meanwhile.
    """
    chain = [image] if of_file else lineage.chain(image)
    if [(layer.file.device, layer.file.inode) for layer in layers] != [file.key for file in chain]:
        raise ContentChanging(image.path)
    before = [settled(file.path) for file in chain]
    yield before[0]
    for file, identity in zip(chain, before, strict=True):
        if FileIdentity.of(file.path) != identity:
            raise ContentChanging(file.path)


def _record(lineage: Lineage, image: Image, held: Held, before: SealRecord | None, level: Protection, *, shadow: bool) -> Sealed:
    """Writes the seal of content that is held, after protecting the file: that moves its times."""
    before = before and believed(before, os.stat(image.path), image.expected_seal)
    unchanged = before is not None and before.content_digest == held.digests.content_digest
    mode_before, immutable_before = _protected_before(image, before)
    if before and level < before.level:
        _lower(image, before)
    path = Path(image.expected_seal)
    home = _sealed_by(image, path)
    old_shadow = shadow_of(home, before)
    reached = min(protection.protect(image.path, level), level)
    record = SealRecord(
        seal_id=before.seal_id if before else _new_id(),
        generation=(before.generation + (not unchanged)) if before else 1,
        content_digest=held.digests.content_digest,
        size=held.digests.size,
        format=image.format,
        identity=_unwritten_since(image.path, held.identity),
        chain=_chain_files(lineage, image),
        level=reached,
        mode_before=mode_before,
        shadow=None,
        created=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        made_by=made_by(),
        signature=before.signature if before and unchanged else None,
        places=places_of(image.filename, [child.filename for child in lineage.children(image)]),
        immutable_before=immutable_before,
        attributes=Attributes.of(image.path).recorded,
        kept_for=before.kept_for if before else None,
        of_file=held.digests.of_file,
    )
    new_shadow, problem = None, None
    if shadow and not (old_shadow and unchanged):
        record, new_shadow, problem = _new_shadow(home, record)
    else:
        record = keep_shadow(record, old_shadow if unchanged else None)
    path, record = _write_somewhere(image, record, held.digests)
    remember_name(image.filename)
    if new_shadow:
        new_shadow.give_name(replaces=old_shadow is not None)
    return Sealed(image.path, path, record, level, anew=not unchanged, shadow_problem=problem)


def _sealed_by(image: Image, seal: Path) -> Path:
    """Returns the name of an image beside which its seal lies, of several the one that the seal has."""
    return Path(os.path.realpath(image.path)) if is_kept(seal) else seal.with_name(seal.name.removesuffix(SUFFIX))


def _new_shadow(home: Path, record: SealRecord) -> tuple[SealRecord, NewShadow | None, str | None]:
    """Does what `renew_shadow` does, where anything can be put beside the image."""
    try:
        if not (is_device(home) or record.kept_for):
            return renew_shadow(home, record)
    except HostFileError as error:
        if error.errno not in CANT_WRITE:
            raise
    return keep_shadow(record, None), None, "nothing can be put beside the image"


def _write_somewhere(image: Image, record: SealRecord, digests: BlockDigests) -> tuple[Path, SealRecord]:
    """Writes a seal where it is, or a new one beside the image; where nothing can be put there, where such seals are kept."""
    path = Path(image.expected_seal)
    beside = "it is a device" if is_device(path.with_name(path.name.removesuffix(SUFFIX))) else None
    if image.seal is not None or beside is None:
        try:
            write_seal(path, record, digests)
            return path, record
        except HostFileError as error:
            if image.seal is not None or error.errno not in CANT_WRITE:
                raise
            beside = error.reason
    elsewhere, place = place_for(os.path.realpath(image.path), beside)
    record = record._replace(kept_for=place)
    write_seal(elsewhere, record, digests)
    return Path(elsewhere), record


def _protected_before(image: Image, before: SealRecord | None) -> tuple[int, bool]:
    """Returns the mode that a file had before it was sealed for the first time, and whether it was immutable, by somebody else.

    An attribute that a seal of a lesser level finds there is none of ours either.
    """
    is_immutable = protection.is_immutable(image.path)
    if before is None:
        return _mode(image.path), is_immutable
    return before.mode_before, before.immutable_before or (is_immutable and before.level < Protection.IMMUTABLE)


def made_by() -> str:
    """Returns what records say they were written by."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"cowherd {version('cowherd')}"
    except PackageNotFoundError:
        return "cowherd, run from its sources"


def _new_id() -> bytes:
    import uuid

    return uuid.uuid4().bytes


def _unwritten_since(path: Path, before: FileIdentity) -> FileIdentity:
    now = _lasting(path)
    if (now.inode, now.size, now.mtime_ns) != (before.inode, before.size, before.mtime_ns):
        raise ContentChanging(path)
    return now


def _lasting(path: Path) -> FileIdentity:
    """Returns a file's identity as a seal records it: with times that a power cut won't turn back."""
    make_lasting(path)
    return settled(path)


def settled(path: Path) -> FileIdentity:
    """Returns a file's identity once the host's clock has ticked since it changed, so that every later change shows in it."""
    identity = FileIdentity.of(path)
    waited_until = time.monotonic() + _LONGEST_TICK_SECONDS
    while identity.ctime_ns >= time.clock_gettime_ns(_COARSE_CLOCK) and time.monotonic() < waited_until:
        time.sleep(0.001)
        identity = FileIdentity.of(path)
    return identity


def _chain_files(lineage: Lineage, image: Image) -> tuple[ChainFile, ...]:
    return tuple(_chain_file(file) for file in lineage.chain(image)[1:])


def _chain_file(file: Image) -> ChainFile:
    record = record_of(file)
    return ChainFile(os.fspath(file.path), _lasting(file.path), record.content_digest if record else None)


def _bind_children(lineage: Lineage, base: Image, record: SealRecord) -> tuple[tuple[Path, ...], tuple[tuple[Path, str], ...]]:
    bound, not_bound = [], []
    for child in lineage.children(base):
        try:
            bind(lineage, child, record)
            bound.append(child.path)
        except CowherdError as error:
            not_bound.append((child.path, str(error)))
    return tuple(bound), tuple(not_bound)


def bind(lineage: Lineage, overlay: Image, base: SealRecord) -> None:
    """Records in the header of `overlay` that it stands on the content of a sealed base; one that does already is left alone.

    Raises as `write_binding` and `keeping_content`.
    """
    binding = Binding.to(base)
    if overlay.binding != binding:
        require_free([overlay])
        with naming_holders(), keeping_content(lineage, overlay):
            write_binding(overlay.path, binding)
    parent = lineage.parent(overlay)
    if parent:
        remember_overlay(parent, overlay.filename)


def _mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def _drop_orphan(image: Path, *, force: bool, herd: Sequence[str | os.PathLike[str]]) -> Path:
    """Gives up the seal of an image that is gone, unless an overlay waits for what it says."""
    path = seal_path(image)
    if not is_there(path):
        raise HostFileError(image, "open", FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    if not is_proven_seal(path):
        raise NotSealed(image)
    if not force:
        _refuse_awaited(image, path, survey_around(image, herd=herd))
    _take_sidecars(path)
    return path


def _refuse_awaited(image: Path, seal: Path, lineage: Lineage) -> None:
    from cowherd.herd.awaited import Awaited

    try:
        record = read_record(seal)
    except ImageFormatError:
        record = None  # it says nothing that anybody could wait for but its name
    waiting = Awaited(lineage).by(image, record)
    if waiting:
        raise UnsealRefused(image, waiting)
