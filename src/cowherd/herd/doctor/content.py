"""Checks of the content of images: seals, bindings, and processes that write to a base right now."""

from __future__ import annotations

import os

from cowherd.errors import CowherdError, ImageInUse
from cowherd.formats import registry
from cowherd.herd.doctor.finding import Finding, Kind
from cowherd.herd.lineage.pending import describe as describe_merge
from cowherd.herd.records.faults import ContentChanging
from cowherd.herd.records.status import Status
from cowherd.live.holders import describe
from cowherd.storage import protection
from cowherd.storage.filetype import is_device
from cowherd.storage.presence import is_there
from cowherd.storage.protection import Protection
from cowherd.text import overlays_stand, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.herd.doctor.examination import Examination
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.seals.quick_check import Condition

_KINDS = {
    Status.DRIFTED: Kind.DRIFTED,
    Status.REPLACED: Kind.REPLACED,
    Status.TOUCHED: Kind.TOUCHED,
    Status.BINDING_MISMATCH: Kind.BINDING_MISMATCH,
    Status.UNVOUCHED: Kind.UNVOUCHED,
}
_STATUSES_OF_BINDING = (Status.BINDING_MISMATCH, Status.UNVOUCHED)
"""The statuses that can be about an overlay's own binding, whether it is sealed or not."""


def lost_images(exam: Examination) -> Iterator[Finding]:
    """Yields images of which only the seal is left."""
    needed = {broken.path for broken in map(exam.lineage.broken, exam.lineage.broken_overlays) if broken}
    for path in exam.lineage.orphans:
        if path in needed:
            detail = (
                "its seal is there, but it is not, and overlays stand on it; a donor that still has its content brings it back"
            )
            yield Finding(Kind.LOST_IMAGE, os.fspath(path), detail, exam.command("cowherd", "repair", path))
        else:
            detail = "its seal is there, but it is not, and nothing stands on it"
            yield Finding(Kind.LOST_IMAGE, os.fspath(path), detail, exam.command("cowherd", "unseal", path))


def interrupted_merges(exam: Examination) -> Iterator[Finding]:
    """Yields merges that were interrupted, each once."""
    for seen in exam.merges.journals:
        if not seen.running:
            remedy = exam.command("cowherd", "recover", seen.path.parent, herd=False)
            yield Finding(Kind.MERGE_INTERRUPTED, os.fspath(seen.path), describe_merge(seen), remedy)


def drift(exam: Examination) -> Iterator[Finding]:
    """Yields sealed images that are not as sealed, and overlays made on other content; not the overlays of such images."""
    for image in exam.images:
        if exam.merges.journals and exam.merges.concerning(image):
            continue
        try:
            found = exam.checker.condition(exam.lineage, image, exam.lineage.parent(image))
        except (ImageInUse, ContentChanging) as error:
            yield Finding(Kind.NOT_READ, image.filename, f"its content can't be read now: {error}")
            continue
        if found.status not in _KINDS:
            if image.key in exam.checker.unread:
                yield Finding(Kind.NOT_READ, image.filename, f"its content can't be read now: {exam.checker.unread[image.key]}")
            continue
        if exam.lineage.seal(image) or (found.status in _STATUSES_OF_BINDING and _is_its_own(exam, image, found)):
            yield _finding_of(exam, image, found)


def _is_its_own(exam: Examination, image: Image, found: Condition) -> bool:
    """Returns whether a status is about an overlay's own binding, and not about that of an image below it."""
    base = exam.lineage.parent(image)
    return base is None or exam.checker.condition(exam.lineage, base, exam.lineage.parent(base)) != found


def _finding_of(exam: Examination, image: Image, found: Condition) -> Finding:
    kind, remedy = _KINDS[found.status], exam.command("cowherd", "verify", "--full", "--refresh", image.filename)
    if _seal_is_damaged(exam, image):
        remedy = exam.command("cowherd", "unseal", "--force", image.filename)
    elif kind is Kind.DRIFTED or (kind is Kind.REPLACED and (exam.full or image.key in exam.checker.differences)):
        remedy = exam.command("cowherd", "repair", image.filename)
    elif kind is Kind.UNVOUCHED:
        base = exam.lineage.parent(image)
        damaged = base is None or exam.lineage.seal(base) is not None  # a damaged seal is a finding of its own, to be cured first
        remedy = () if base is None or damaged else exam.command("cowherd", "seal", base.filename)
    elif kind is Kind.BINDING_MISMATCH and image.binding:
        remedy = exam.command("cowherd", "move", "--repair", image.filename)
    return Finding(kind, image.filename, found.detail, remedy)


def _seal_is_damaged(exam: Examination, image: Image) -> bool:
    try:
        exam.lineage.record_of(image)
    except CowherdError:
        return True
    return False


def written_now(exam: Examination) -> Iterator[Finding]:
    """Yields bases with overlays that a process has open for writing."""
    for base in exam.lineage.bases:
        for holder in exam.written.get(base.key, ()):
            detail = f"{describe(holder)} has it open for writing, and {_stand_on(exam, base)}"
            yield Finding(Kind.WRITTEN_NOW, base.filename, f"{detail}; stop that process")


def unprotected_bases(exam: Examination) -> Iterator[Finding]:
    """Yields bases that nothing protects from changes: without a seal, or sealed and writable."""
    for base in exam.lineage.bases:
        if base.problem or exam.lineage.broken(base) or exam.lineage.in_loop(base):
            continue
        if base.filename in exam.live_snapshot_parents:
            continue  # 'virsh blockcommit' is going to write to it: it would fail at a seal, or break it
        hit = f"{_stand_on(exam, base)}, and"
        if not exam.may_change(base):
            if exam.lineage.seal(base) is None:
                detail = f"{hit} nothing records what it holds; whoever may write there can seal it, and 'cowherd clone' does too"
                yield Finding(Kind.UNSEALED_BASE, base.filename, detail)
            continue
        remedy = exam.command("cowherd", "seal", "--level", "readonly", "--bind", base.filename)
        if exam.lineage.seal(base) is None:
            detail = f"{hit} nothing records what it holds"
            beside = exam.lineage.place_of_seal(base)
            if is_there(beside):
                detail += f"; {printable(beside)}, which has the name of its seal, is none: rename one of both"
                yield Finding(Kind.UNSEALED_BASE, base.filename, detail)
                continue
            yield Finding(Kind.UNSEALED_BASE, base.filename, detail, remedy)
        elif protection.current(base.filename) is Protection.RECORDED and not is_device(base.filename):
            # The host sets a device's mode.
            yield Finding(Kind.WRITABLE_BASE, base.filename, f"{hit} everybody who may write to its file can", remedy)


def _stand_on(exam: Examination, base: Image) -> str:
    return f"{overlays_stand(exam.lineage.count_dependents(base))} on it"


def unbound(exam: Examination) -> Iterator[Finding]:
    """Yields overlays of sealed bases that record no binding."""
    for image, base in exam.lineage.overlays:
        has_place = registry.named(image.format).extensions
        if has_place and image.binding is None and image.problem is None and exam.lineage.seal(base):
            if not exam.may_change(image):
                continue  # this user can't bind it
            detail = f"it has no binding to its sealed base {printable(base.filename)}"
            yield Finding(Kind.UNBOUND, image.filename, detail, exam.command("cowherd", "bind", image.filename))
