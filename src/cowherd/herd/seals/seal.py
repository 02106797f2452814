"""Seals an image: records its guest content block by block, and protects its file.

The content is the whole guest view, read through the image's own backing files; so a change below the image shows as its drift.
"""

from __future__ import annotations

import os
import stat
import time

from cowherd.distribution import made_by
from cowherd.errors import CowherdError, FlushFailed, HostFileError
from cowherd.herd.lineage.book.generations import newest_generation, note_generation
from cowherd.herd.lineage.book.query import remember_name
from cowherd.herd.lineage.book.seals import places_of
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.requirements import require_one_format
from cowherd.herd.lineage.survey import survey_again, survey_around
from cowherd.herd.log import concerned
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
from cowherd.paths import as_path, path_names
from cowherd.storage import protection
from cowherd.storage.attributes import Attributes
from cowherd.storage.filetype import is_device
from cowherd.storage.holding import Holding
from cowherd.storage.protection import Protection
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.records.digest import BlockDigests
    from cowherd.paths import PathName, PathNames
    from cowherd.progress import Progress
    from cowherd.storage.protection import Level


class Sealed(NamedTuple):
    """The result of sealing.

    `wanted` is the level that was asked for, `record.level` the one that was reached. `shadow_problem` says why there is no
    shadow although one was asked for. `anew` is False if there was a seal of the same content before. `bound` are the overlays
    that have a binding now, `not_bound` those that could not get one, with the reason; `contradicted` are the overlays among
    these that were made on other content.
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

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd seal --json` prints them."""
        record = self.record
        return {
            "image": os.fspath(self.image),
            "seal": os.fspath(self.seal),
            "content_digest": record.content_digest.hex(),
            "seal_id": record.seal_id.hex(),
            "generation": record.generation,
            "size": record.size,
            "format": record.format,
            "level": record.level.label,
            "wanted_level": self.wanted.label,
            "shadow": record.shadow,
            "shadow_problem": self.shadow_problem,
            "anew": self.anew,
            "signed_by": record.signature.public_key.hex() if record.signature else None,
            "bound": [os.fspath(path) for path in self.bound],
            "not_bound": [{"path": os.fspath(path), "problem": problem} for path, problem in self.not_bound],
        }


def seal(
    image: PathName,
    *,
    level: Level = Protection.RECORDED,
    image_format: str | None = None,
    shadow: bool = False,
    bind: bool = False,
    rebind: bool = False,
    sign_with: PathName | None = None,
    herd: PathNames = (),
    force: bool = False,
    looked_at: bool = False,
    progress: Progress | None = None,
) -> Sealed:
    """Seals `image` as it is now and protects its file at `level`, or as near to it as the host allows.

    `shadow` keeps a reflink copy beside it; `bind` gives its overlays in the herd a binding; `rebind` also those that were made
    on other content, so that what they show now counts as right from then on. `sign_with` is the file of an Ed25519 key to sign
    the seal with (`SigningUnavailable`, `KeyUnusable`). Sealing an image again changes only its level, if its content is as
    sealed.

    Raises `DriftFound` if it is not, `ImageInUse` if a process has the image open for writing, `ContentChanging` if somebody
    writes to it meanwhile, `NameTaken` if another file has its seal's or shadow's name. For an image without a seal, unless
    `force`, it raises `NotSound` if the image is damaged, cut off, empty, or no disk image (`looked_at`: the caller has checked
    that already), and `BindingContradicted` if an overlay was made on other content.
    """
    herd, level = path_names(herd), Protection.named(level)
    lineage = survey_around(image, herd=herd)
    base = lineage.find(image, image_format)
    require_none(lineage, [base], "seal")
    with Holding() as held:
        if not (force or looked_at):
            require_sound_chain(lineage, base, "seal", stated=image_format is not None, opener=held.keep)
        sign = _signer(sign_with) if sign_with is not None else None
        return seal_found(
            lineage,
            base,
            level,
            shadow=shadow,
            bind=bind or rebind,
            rebind=rebind,
            force=force,
            sign=sign,
            held=held,
            progress=progress,
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
    held: Holding | None = None,
    progress: Progress | None = None,
) -> Sealed:
    """Seals an image of a lineage that the caller has, also during a merge. Raises as `seal`.

    With `held` the files of the image are held there, for longer than it takes. Seals of the image's dependents that hold are
    updated, so that they know the image's file as it is afterwards.
    """
    from cowherd.herd.seals.upkeep import holding_seals, record_kept

    require_one_format(lineage, [base], "seal")
    before = record_of(base)
    if before is None or shadow:
        require_sidecars_free(base.expected_seal.removesuffix(SUFFIX), shadow=shadow)
    require_free(stable=lineage.chain(base), locks=False)
    kept = holding_seals(lineage, *lineage.dependents(base))
    with held_content(lineage, base, progress, held) as found:
        require_free(stable=lineage.chain(base), locks=False)
        concerned.note([base.filename])
        content = found.digests.content_digest
        if before and before.content_digest != content:
            raise DriftFound(base.path, Status.DRIFTED, "seal it over the content that its seal holds")
        if not (before or force or rebind):
            _refuse_contradicted(lineage, base, content)
        outcome = _seal_held(lineage, base, found, before, level, shadow=shadow)
        if sign:
            outcome = outcome._replace(record=sign(_as_newest_generation(outcome.record)))
            write_seal(outcome.seal, outcome.record, found.digests)
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


def _as_newest_generation(record: SealRecord) -> SealRecord:
    """Returns a record for signing. If this host has seen a newer generation of the seal, the record becomes the next one."""
    newest = newest_generation(record.seal_id)
    return record if record.generation >= newest else record._replace(generation=newest + 1)


def _signer(key: PathName) -> Callable[[SealRecord], SealRecord]:
    from cowherd.herd.records.signing import signer

    return signer(key)


def reseal(lineage: Lineage, image: Image, held: Held) -> SealRecord:
    """Writes the content that was read of `image` into its seal; the level stays, and so does whether there is a shadow.

    New content makes a new generation. Raises `NotSealed`, `ContentChanging` if somebody wrote to the file after it was read.
    """
    before = record_of(image)
    if before is None:
        raise NotSealed(image.path)
    record = _seal_held(lineage, image, held, before, before.level, shadow=before.shadow is not None).record
    note_generation(record)
    return record


def refresh(lineage: Lineage, image: Image, held: Held) -> None:
    """Records the files of `image` as they are now, and restores its protection. Its content was just read, and is as sealed.

    Raises `DriftFound` if the content is not as sealed, `ContentChanging` if somebody wrote to the file after it was read.
    """
    path, record = _require_seal(image)
    record = believed(record, os.stat(image.path), path)
    if record.content_digest != held.digests.content_digest:
        raise DriftFound(image.path, Status.DRIFTED, "record it as unchanged")
    protection.protect(image.path, record.level)
    write_seal(path, with_files(record, lineage, image, held.identity), held.digests)


def _require_seal(image: Image) -> tuple[Path, SealRecord]:
    seal, record = image.seal, record_of(image)
    if seal is None or record is None:
        raise NotSealed(image.path)
    return as_path(seal), record


def _seal_held(
    lineage: Lineage, image: Image, held: Held, before: SealRecord | None, level: Protection, *, shadow: bool
) -> Sealed:
    """Protects the file, then writes the seal of the content that is held: in this order, since protecting moves the times."""
    before = before and believed(before, os.stat(image.path), image.expected_seal)
    unchanged = before is not None and before.content_digest == held.digests.content_digest
    mode_before, immutable_before = _protected_before(image, before)
    if before is None and level > Protection.RECORDED:
        # First a seal that only records: a run killed between protecting and sealing would leave a protected file, whose mode the
        # next run would take for the one that the file had before.
        before = _seal_held(lineage, image, held, None, Protection.RECORDED, shadow=False).record
        return _seal_held(lineage, image, held, before, level, shadow=shadow)._replace(anew=True)
    if before and level < before.level:
        lower(image, before)
    path = as_path(image.expected_seal)
    home = _name_with_seal(image, path)
    old_shadow = shadow_of(home, before)
    reached = min(protection.protect(image.path, level), level)
    known = before or _id_for_first_seal(lineage, image, held.digests.content_digest)
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
        record, new_shadow, problem = _try_new_shadow(home, record)
    else:
        record = keep_shadow(record, old_shadow if unchanged else None)
    path, record = _write_somewhere(image, record, held.digests)
    remember_name(image.filename)
    if new_shadow:
        new_shadow.give_name(replaces=old_shadow is not None)
    return Sealed(image.path, path, record, level, anew=not unchanged, shadow_problem=problem)


def _name_with_seal(image: Image, seal: Path) -> Path:
    """Returns the name of an image that its seal belongs to; an image may have several names, and the seal lies beside one."""
    return as_path(os.path.realpath(image.path)) if is_kept(seal) else seal.with_name(seal.name.removesuffix(SUFFIX))


def _try_new_shadow(home: Path, record: SealRecord) -> tuple[SealRecord, NewShadow | None, str | None]:
    """Does what `renew_shadow` does, if a file can be made beside the image; else returns a record without a shadow."""
    try:
        if not (is_device(home) or record.kept_for):
            return renew_shadow(home, record)
    except HostFileError as error:
        if error.errno not in CANT_WRITE:
            raise
    return keep_shadow(record, None), None, "nothing can be put beside the image"


def _write_somewhere(image: Image, record: SealRecord, digests: BlockDigests) -> tuple[Path, SealRecord]:
    """Writes a seal where it lies, or a new one beside the image; if no file can be made there, into cowherd's state."""
    path = as_path(image.expected_seal)
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
    return as_path(elsewhere), record


def _protected_before(image: Image, before: SealRecord | None) -> tuple[int, bool]:
    """Returns the mode that a file had before its first seal, and whether somebody other than cowherd had made it immutable.

    A seal of a lesser level than IMMUTABLE did not make the file immutable either, so then too it was somebody else.
    """
    is_immutable = protection.is_immutable(image.path)
    if before is None:
        return _mode(image.path), is_immutable
    return before.mode_before, before.immutable_before or (is_immutable and before.level < Protection.IMMUTABLE)


def _id_for_first_seal(lineage: Lineage, image: Image, content: bytes) -> Binding:
    """Returns the id and generation for an image's first seal: those of a lost seal of that content to which its overlays are
    bound, or else a new id."""
    known = [child.binding for child in lineage.children(image) if child.binding and child.binding.content_digest == content]
    return max(known, key=lambda one: (one.generation, one.seal_id)) if known else Binding(content, _new_id(), 1)


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
        except FlushFailed:  # worse than not bound: what the header holds on the disk is not known
            raise
        except CowherdError as error:
            not_bound.append((child.path, str(error)))
    return tuple(bound), tuple(not_bound)


def _mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)
