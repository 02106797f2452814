"""Sealing an image: its guest content is recorded block by block, and its file protected.

The content is the whole guest view, read through the image's own backing files; what changes below it shows as its drift.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from cowherd.errors import CowherdError, FlushFailed, HostFileError
from cowherd.herd.lineage.book.generations import newest_generation, note_generation
from cowherd.herd.lineage.book.query import remember_name
from cowherd.herd.lineage.book.seals import places_of
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.requirements import require_one_format
from cowherd.herd.lineage.survey import survey_again, survey_around
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.records.binding import Binding
from cowherd.herd.records.faults import BindingContradicted, DriftFound, NotSealed
from cowherd.herd.records.ownership import believed
from cowherd.herd.records.sealplace import CANT_WRITE, is_kept, place_for
from cowherd.herd.records.sealrecord import SUFFIX, SealRecord
from cowherd.herd.records.sealwriting import write_seal
from cowherd.herd.records.sidecars import require_sidecars_free
from cowherd.herd.records.status import Status
from cowherd.herd.seals.bind import bind
from cowherd.herd.seals.evidence import contradicted
from cowherd.herd.seals.held import Held, held_content
from cowherd.herd.seals.quick_check import record_of
from cowherd.herd.seals.recorded_files import with_files
from cowherd.herd.seals.shadow import NewShadow, keep_shadow, renew_shadow, shadow_of
from cowherd.herd.seals.soundness import require_sound_chain
from cowherd.herd.seals.unseal import lower
from cowherd.storage import protection
from cowherd.storage.attributes import Attributes
from cowherd.storage.filetype import is_device
from cowherd.storage.protection import Protection
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.records.digest import BlockDigests
    from cowherd.paths import PathName
    from cowherd.progress import Progress


class Sealed(NamedTuple):
    """What sealing did.

    `wanted` is the level asked for, `record.level` the one reached; `shadow_problem` says why a shadow that was asked for is not
    there; `anew` is False where a seal of the same content was there before. `bound` are the overlays that have a binding now,
    `not_bound` those that could not get one, with the reason; `contradicted` those of them that were made on other content.
    """

    image: Path
    seal: Path
    record: SealRecord
    wanted: Protection
    anew: bool
    shadow_problem: str | None = None
    bound: tuple[Path, ...] = ()
    not_bound: tuple[tuple[Path, str], ...] = ()
    contradicted: tuple[Path, ...] = ()


def seal(
    image: PathName,
    *,
    level: Protection = Protection.RECORDED,
    image_format: str | None = None,
    shadow: bool = False,
    bind: bool = False,
    rebind: bool = False,
    sign_with: PathName | None = None,
    herd: Sequence[PathName] = (),
    force: bool = False,
    looked_at: bool = False,
    progress: Progress | None = None,
) -> Sealed:
    """Seals `image` as it is now and brings its file to `level`, or as near to it as the host allows.

    With `shadow` a reflink copy is kept beside it, with `bind` the overlays of it in the herd get a binding. With `rebind` so do
    those that were made on other content: what they show now counts as right from then on. `sign_with` is the file of an Ed25519
    key to sign the seal with (`SigningUnavailable`, `KeyUnusable`). Sealing an image again changes its level, and nothing else,
    if its content is as sealed. Raises `DriftFound` if it is not, `ImageInUse` if a process has the image open for writing,
    `ContentChanging` if it is written to meanwhile, `NameTaken` if something else has its seal's or shadow's name, and, unless
    `force`, for one that is not sealed `NotSound` if it is damaged, cut off, empty, or no disk image (the caller may have
    `looked_at` that already), and `BindingContradicted` if an overlay was made on other content.
    """
    lineage = survey_around(image, herd=herd)
    base = lineage.find(image, image_format)
    require_none(lineage, [base], "seal")
    if not (force or looked_at):
        require_sound_chain(lineage, base, "seal", stated=image_format is not None)
    sign = _signer(sign_with) if sign_with is not None else None
    return seal_found(
        lineage, base, level, shadow=shadow, bind=bind or rebind, rebind=rebind, force=force, sign=sign, progress=progress
    )


def seal_found(
    lineage: Lineage,
    base: Image,
    level: Protection,
    *,
    shadow: bool,
    bind: bool = False,
    rebind: bool = False,
    force: bool = False,
    sign: Callable[[SealRecord], SealRecord] | None = None,
    progress: Progress | None = None,
) -> Sealed:
    """Does the same to an image of a lineage that is known, also amid a merge. Raises as `seal`.

    Seals of what stands on the image, where they hold, know it afterwards as it is then.
    """
    from cowherd.herd.seals.upkeep import holding_seals, record_kept

    require_one_format(lineage, [base], "seal")
    before = record_of(base)
    if before is None or shadow:
        require_sidecars_free(base.expected_seal.removesuffix(SUFFIX), shadow=shadow)
    require_free(stable=lineage.chain(base), locks=False)
    kept = holding_seals(lineage, *lineage.dependents(base))
    with held_content(lineage, base, progress) as held:
        require_free(stable=lineage.chain(base), locks=False)
        content = held.digests.content_digest
        if before and before.content_digest != content:
            raise DriftFound(base.path, Status.DRIFTED, "seal it over the content that its seal holds")
        if not (before or force or rebind):
            _refuse_contradicted(lineage, base, content)
        outcome = _record(lineage, base, held, before, level, shadow=shadow)
        if sign:
            outcome = outcome._replace(record=sign(_newest(outcome.record)))
            write_seal(outcome.seal, outcome.record, held.digests)
    note_generation(outcome.record)
    if kept:
        record_kept(survey_again(lineage), kept)
    if bind:
        bound, not_bound = _bind_children(survey_again(lineage) if kept else lineage, base, outcome.record, rebind=rebind)
        wrong = [] if rebind else contradicted(lineage, base, outcome.record.content_digest)
        return outcome._replace(bound=bound, not_bound=not_bound, contradicted=tuple(child.path for child in wrong))
    return outcome


def _refuse_contradicted(lineage: Lineage, base: Image, content: bytes) -> None:
    for overlay in contradicted(lineage, base, content):
        raise BindingContradicted(overlay.path, base.path, "seal that base")


def _newest(record: SealRecord) -> SealRecord:
    """Returns a record that is about to be signed, as a generation after all that this host has seen, if it is an older one."""
    newest = newest_generation(record.seal_id)
    return record if record.generation >= newest else record._replace(generation=newest + 1)


def _signer(key: PathName) -> Callable[[SealRecord], SealRecord]:
    from cowherd.herd.records.signing import signer

    return signer(key)


def reseal(lineage: Lineage, image: Image, held: Held) -> SealRecord:
    """Makes what was read of `image` what its seal says; protection and shadow stay as they were.

    A new content makes a new generation. Raises `NotSealed`, `ContentChanging` if the file was written to since it was read.
    """
    before = record_of(image)
    if before is None:
        raise NotSealed(image.path)
    record = _record(lineage, image, held, before, before.level, shadow=before.shadow is not None).record
    note_generation(record)
    return record


def refresh(lineage: Lineage, image: Image, held: Held) -> None:
    """Records the files of `image`, whose content was just found to be as sealed, as they are now; protection is put back.

    Raises `DriftFound` if the content is not as sealed, `ContentChanging` if the file was written to since it was read.
    """
    path, record = _existing(image)
    record = believed(record, os.stat(image.path), path)
    if record.content_digest != held.digests.content_digest:
        raise DriftFound(image.path, Status.DRIFTED, "record it as unchanged")
    protection.protect(image.path, record.level)
    write_seal(path, with_files(record, lineage, image, held.identity), held.digests)


def _existing(image: Image) -> tuple[Path, SealRecord]:
    seal, record = image.seal, record_of(image)
    if seal is None or record is None:
        raise NotSealed(image.path)
    return Path(seal), record


def _record(lineage: Lineage, image: Image, held: Held, before: SealRecord | None, level: Protection, *, shadow: bool) -> Sealed:
    """Writes the seal of content that is held, after protecting the file: that moves its times."""
    before = before and believed(before, os.stat(image.path), image.expected_seal)
    unchanged = before is not None and before.content_digest == held.digests.content_digest
    mode_before, immutable_before = _protected_before(image, before)
    if before is None and level > Protection.RECORDED:
        # Killed behind the next step, it would take the mode of a protected file for the one that it had before.
        before = _record(lineage, image, held, None, Protection.RECORDED, shadow=False).record
        return _record(lineage, image, held, before, level, shadow=shadow)._replace(anew=True)
    if before and level < before.level:
        lower(image, before)
    path = Path(image.expected_seal)
    home = _sealed_by(image, path)
    old_shadow = shadow_of(home, before)
    reached = min(protection.protect(image.path, level), level)
    known = before or _remembered(lineage, image, held.digests.content_digest)
    record = SealRecord(
        seal_id=known.seal_id,
        generation=before.generation_with(held.digests.content_digest) if before else known.generation,
        content_digest=held.digests.content_digest,
        size=held.digests.size,
        format=image.format,
        identity=held.identity,
        chain=(),
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
    record = with_files(record, lineage, image, held.identity)
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


def _remembered(lineage: Lineage, image: Image, content: bytes) -> Binding:
    """Returns what the overlays of an image know of the seal that it had, with that content, and lost; else what is new."""
    known = [child.binding for child in lineage.children(image) if child.binding and child.binding.content_digest == content]
    return max(known, key=lambda one: (one.generation, one.seal_id)) if known else Binding(content, _new_id(), 1)


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


def _bind_children(
    lineage: Lineage, base: Image, record: SealRecord, *, rebind: bool
) -> tuple[tuple[Path, ...], tuple[tuple[Path, str], ...]]:
    bound, not_bound = [], []
    for child in lineage.children(base):
        try:
            bind(lineage, child, record, rebind=rebind)
            bound.append(child.path)
        except FlushFailed:  # not only unbound: nobody knows what its header holds
            raise
        except CowherdError as error:
            not_bound.append((child.path, str(error)))
    return tuple(bound), tuple(not_bound)


def _mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)
