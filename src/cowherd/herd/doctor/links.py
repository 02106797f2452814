"""Checks of the links from overlays to bases: missing bases, unsound names, unrecorded formats, chains that are too long."""

from __future__ import annotations

import os

from cowherd.errors import BackingFileError
from cowherd.herd.doctor.finding import Finding, Kind
from cowherd.herd.lineage.book.forgetting import forget_what_is_gone
from cowherd.image.backing import resolve
from cowherd.paths import as_path
from cowherd.sizes import human_size
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cowherd.herd.doctor.examination import Examination
    from cowherd.herd.lineage.scan import Image


def missing_bases(exam: Examination) -> Iterator[Finding]:
    """Yields overlays whose base can't be found from any of their names."""
    for image in exam.lineage.broken_overlays:
        broken = exam.lineage.broken(image)
        if broken and not broken.unknown:
            where = printable(broken.path or broken.name)
            deleted = in_trash(broken.path)
            known = image.binding or (broken.path and broken.path in exam.lineage.orphans)
            if deleted:
                detail = f"its base {where} was deleted, and lies in the trash"
                yield Finding(Kind.MISSING_BASE, image.filename, detail, ("cowherd", "trash", "restore", os.fspath(deleted)))
            elif known:
                detail = f"its base {where} can't be followed: {broken.problem}. Moved by hand, it is found by its content"
                yield Finding(
                    Kind.MISSING_BASE, image.filename, detail, exam.command("cowherd", "move", "--repair", image.filename)
                )
            else:
                detail = f"its base {where} can't be followed: {broken.problem}. Nothing says what it held: put it back there"
                yield Finding(Kind.MISSING_BASE, image.filename, detail)


def unknown_bases(exam: Examination) -> Iterator[Finding]:
    """Yields overlays whose base can't be reached from here: neither gone nor fine."""
    for image in exam.lineage.broken_overlays:
        broken = exam.lineage.broken(image)
        if broken and broken.unknown and image.backing:
            where = printable(broken.path or image.backing.name)
            yield Finding(Kind.UNKNOWN_BASE, image.filename, f"its base {where} can't be looked at from here: {broken.problem}")


def disputed_formats(exam: Examination) -> Iterator[Finding]:
    """Yields bases that overlays record in different formats: a write that follows one format ruins the base for the others."""
    for base in exam.lineage.disputed:
        recorded = sorted(exam.lineage.recorded_formats(base).items())
        said = ", ".join(f"{printable(overlay)} says {printable(name)}" for name, overlay in recorded)
        detail = f"its overlays record it in different formats: {said}. Put the wrong one right with cowherd-img rebase -u"
        yield Finding(Kind.DISPUTED_FORMAT, base.filename, detail)


def unseen_places(exam: Examination) -> Iterator[Finding]:
    """Yields places in which overlays are known to lie and that can't be read now."""
    for one in exam.lineage.unseen:
        what = f"overlays of {printable(one.base)} are known to lie here" if one.base else "it is named as a herd"
        yield Finding(Kind.UNSEEN_PLACE, one.place, f"{what}, and it can't be looked at: {one.problem}")


def forgotten_places(exam: Examination) -> Iterator[Finding]:
    """Removes places that hold no overlays any more from this host's herd book, and yields them."""
    for home, one in forget_what_is_gone(exam.lineage):
        detail = f"no overlay of {printable(os.path.join(home, one.base))} lies here any more; that is forgotten now"
        yield Finding(Kind.FORGOTTEN, one.directory, detail)


def in_trash(path: Path | None) -> Path | None:
    """Returns `path` without symbolic links if an image that was deleted from there lies in the trash, else None."""
    if path is None:
        return None
    from cowherd.herd.records.trashbox import entries, trashes_right_in  # few herds have an overlay whose base is missing

    real = as_path(os.path.realpath(path))
    trashes = trashes_right_in([os.fspath(real.parent)])
    return real if any(entry.path == real for trash in trashes for entry in entries(trash)[0]) else None


def loops(exam: Examination) -> Iterator[Finding]:
    """Yields images whose chain comes back to themselves."""
    for image in exam.lineage.looped:
        detail = "its chain comes back to itself; name its real base with cowherd-img rebase -u"
        yield Finding(Kind.LOOP, image.filename, detail)


def unrecorded_formats(exam: Examination) -> Iterator[Finding]:
    """Yields overlays that record no format of their base, so that QEMU guesses it from bytes that a guest may have written."""
    for image, base in exam.lineage.overlays:
        if image.backing and not image.backing.format and not _records_format(image):
            detail = f"it does not record the format of its base {printable(base.filename)}, which looks like {base.format}"
            remedy = exam.command("cowherd", "bind", image.filename, "--format", base.format)
            yield Finding(Kind.NO_FORMAT, image.filename, detail, remedy)


def _records_format(image: Image) -> bool:
    assert image.backing is not None
    try:
        return resolve(image.path, image.backing).format is not None
    except BackingFileError:
        return True  # `missing_bases` reports a name that can't be followed


def names(exam: Examination) -> Iterator[Finding]:
    """Yields overlays whose backing file name leads to the base only from one place."""
    for image, base in exam.lineage.overlays:
        if image.backing is None:
            continue
        remedy = ("cowherd", "move", "--repair", image.filename)
        if exam.lineage.leads_astray(image):
            lost = [link for link in exam.lineage.links(image) if link.target != base.key]
            detail = (
                f"opened as {printable(lost[0].name)} it does not find its base, since that name is relative to where it lies"
            )
            yield Finding(Kind.BROKEN_NAME, image.filename, detail, exam.command(*remedy))
        elif exam.breaks_when_moved(image, base):
            detail = f"it names its base as {printable(image.backing.name)}, which leads elsewhere from another directory"
            yield Finding(Kind.FRAGILE_NAME, image.filename, detail, exam.command(*remedy))


def deep_chains(exam: Examination) -> Iterator[Finding]:
    """Yields overlays at the end of a chain that is too long: reads may search every layer, and each is a file kept open."""
    for image in exam.lineage.deep(max(exam.longest_chain, 0)):
        if not exam.lineage.has_children(image):
            detail = f"its chain has {exam.lineage.length(image)} images, more than {exam.longest_chain}"
            yield Finding(Kind.DEEP_CHAIN, image.filename, detail, exam.command("cowherd", "flatten", image.filename))


def smaller_bases(exam: Examination) -> Iterator[Finding]:
    """Yields unsealed bases that are smaller than an overlay: it was made larger, or the base was shrunk later."""
    for base in exam.lineage.bases:
        if base.size is None or exam.lineage.seal(base):
            continue
        larger = [child for child in exam.lineage.children(base) if (child.size or 0) > base.size]
        if larger:
            sizes = f"it has {human_size(base.size)}, its overlay {printable(larger[0].path)} {human_size(larger[0].size or 0)}"
            detail = f"{sizes}: nothing says whether it was cut off since"
            yield Finding(Kind.SMALLER_BASE, base.filename, detail, exam.command("cowherd", "seal", "--bind", base.filename))
