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

from cowherd.errors import CowherdError, FlushFailed, HostFileError, ImageFormatError
from cowherd.herd.binding import Binding, write_binding
from cowherd.herd.book.seals import places_of, remember_overlay
from cowherd.herd.condition import condition, record_of
from cowherd.herd.faults import ContentChanging, DriftFound, NotSealed, UnsealRefused
from cowherd.herd.lineage import Lineage, survey_around
from cowherd.herd.merging.pending import require_none
from cowherd.herd.requirements import require_one_format, require_seen
from cowherd.herd.sealfile import SHADOW_SUFFIX, SUFFIX, ChainFile, SealRecord, read_digests, seal_path, write_seal
from cowherd.herd.soundness import require_sound_chain
from cowherd.herd.status import Status
from cowherd.live.holders import naming_holders
from cowherd.storage import copying, protection
from cowherd.storage.durable import make_durable_if_recent
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
    for writing, `ContentChanging` if it is written to meanwhile, and, unless `force`, `NotSound` for one that is not sealed and
    is damaged, cut off, empty, or no disk image.
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
    with held_content(lineage, base, progress) as held:
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
    if record.content_digest != held.digests.content_digest:
        raise DriftFound(image.path, Status.DRIFTED, "record it as unchanged")
    protection.protect(image.path, record.level)
    identity = _unwritten_since(image.path, held.identity)
    write_seal(path, record._replace(identity=identity, chain=_chain_files(lineage, image)), held.digests)


def unseal(image: str | os.PathLike[str], *, force: bool = False, herd: Sequence[str | os.PathLike[str]] = ()) -> Path:
    """Gives up the seal of `image`, its shadow and its protection; the file gets its mode from before back.

    Returns where the seal was. Raises `UnsealRefused` while overlays in the herd depend on it, unless `force`; `NotSealed`.
    An image that is gone can be unsealed too.
    """
    if not is_there(image):
        return _drop_orphan(Path(image))
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
    take_name(path.with_name(path.name.removesuffix(SUFFIX) + SHADOW_SUFFIX))
    take_name(path)
    return path


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
    record = record._replace(identity=_lasting(image.path), chain=_chain_files(lineage, image))
    write_seal(image.expected_seal, record, digests)


@contextlib.contextmanager
def unprotected(image: Image, record: SealRecord) -> Iterator[None]:
    """Lifts the protection that `record` tells of while the block runs, and puts it back however that ends."""
    if record.level is Protection.RECORDED:
        yield
        return
    protection.unprotect(image.path, record.mode_before)
    try:
        yield
    finally:
        protection.protect(image.path, record.level)


def _restore_mode(image: Image, *, force: bool) -> None:
    try:
        record = record_of(image)
    except ImageFormatError:
        if not force:
            raise
        return  # a damaged seal no longer says what the mode was
    if record and record.level > Protection.RECORDED:
        protection.unprotect(image.path, record.mode_before)
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
    from cowherd.herd.digest import digest_disk
    from cowherd.image.open import open_disk

    with naming_holders(), open_disk(image.path, format=image.format) as disk:
        with _unwritten(lineage, image, disk.layers) as identity:
            digests = digest_disk(disk, progress)
        yield Held(digests, identity)


def confirms(lineage: Lineage, image: Image, content: bytes, progress: Progress | None = None) -> bool:
    """Returns whether the content digest of `image` is `content`, if that can be told without arrays.

    False if it is another one, or the image is not simple enough: then `held_content` tells. Raises as that.
    """
    from cowherd.formats.outline import NotPlain
    from cowherd.herd.plain import outlined_digest
    from cowherd.image.outline import open_outline

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
def _unwritten(lineage: Lineage, image: Image, layers: Sequence[Link]) -> Iterator[FileIdentity]:
    """Gives the identity of an image's file to a block that reads its open `layers`.

    Raises `ContentChanging` if these are not the files that the lineage knows, or if one was written to meanwhile.
    """
    chain = lineage.chain(image)
    if [(layer.file.device, layer.file.inode) for layer in layers] != [file.key for file in chain]:
        raise ContentChanging(image.path)
    before = [settled(file.path) for file in chain]
    yield before[0]
    for file, identity in zip(chain, before, strict=True):
        if FileIdentity.of(file.path) != identity:
            raise ContentChanging(file.path)


def _record(lineage: Lineage, image: Image, held: Held, before: SealRecord | None, level: Protection, *, shadow: bool) -> Sealed:
    """Writes the seal of content that is held, after protecting the file: that moves its times."""
    unchanged = before is not None and before.content_digest == held.digests.content_digest
    mode_before = before.mode_before if before else _mode(image.path)
    if before and level < before.level:
        protection.unprotect(image.path, mode_before)
    shadow_name = _kept_shadow(image.path, before) if before and unchanged else None
    if shadow and not shadow_name:
        shadow_name = make_shadow(image.path)
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
        shadow=shadow_name,
        created=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        made_by=made_by(),
        signature=before.signature if before and unchanged else None,
        places=places_of(image.filename, [child.filename for child in lineage.children(image)]),
    )
    path = Path(image.expected_seal)
    write_seal(path, record, held.digests)
    problem = "the file system has no reflinks" if shadow and not shadow_name else None
    return Sealed(image.path, path, record, level, anew=not unchanged, shadow_problem=problem)


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


def _kept_shadow(path: Path, before: SealRecord) -> str | None:
    return before.shadow if before.shadow and path.with_name(before.shadow).exists() else None


def make_shadow(path: Path) -> str | None:
    """Keeps a reflink copy of an image beside it and returns its name, None where the file system can't. Not yet recorded."""
    shadow = path.with_name(path.name + SHADOW_SUFFIX)
    if not copying.clone_file(path, shadow):
        return None
    protection.protect(shadow, Protection.READONLY)
    return shadow.name


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
        except FlushFailed:  # not only unbound: nobody knows what its header holds
            raise
        except CowherdError as error:
            not_bound.append((child.path, str(error)))
    return tuple(bound), tuple(not_bound)


def bind(lineage: Lineage, overlay: Image, base: SealRecord) -> None:
    """Records in the header of `overlay` that it stands on the content of a sealed base; one that does already is left alone.

    Raises as `write_binding` and `keeping_content`.
    """
    binding = Binding.to(base)
    if overlay.binding != binding:
        with naming_holders(), keeping_content(lineage, overlay):
            write_binding(overlay.path, binding)
    else:
        make_durable_if_recent(overlay.path)  # it may be bound only in memory, by a run that was killed
    parent = lineage.parent(overlay)
    if parent:
        remember_overlay(parent, overlay.filename)


def _mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def _drop_orphan(image: Path) -> Path:
    path = seal_path(image)
    if not is_there(path):
        raise HostFileError(image, "open", FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    take_name(path.with_name(path.name.removesuffix(SUFFIX) + SHADOW_SUFFIX))
    take_name(path)
    return path
