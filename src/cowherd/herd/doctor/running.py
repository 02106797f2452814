"""Checks of running machines: where what they have in memory differs from the disk, as `cowherd ps` finds it."""

from __future__ import annotations

import os

from cowherd.herd.doctor.finding import Finding, Kind
from cowherd.live.holders import describe
from cowherd.paths import as_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cowherd.herd.doctor.examination import Examination
    from cowherd.live.kernel_holders import Key
    from cowherd.live.open_images import OpenImage
    from cowherd.live.running import Running
    from cowherd.live.running_faults import Fault, Found

_OTHERWISE_CALLED = {"deleted": Kind.RUNNING_ON_DELETED, "replaced": Kind.RUNNING_ON_REPLACED}
"""Faults whose names the doctor has for something else: a status of a seal is called "replaced"."""


def kind_of(fault: Fault) -> Kind:
    """Returns the kind of the doctor's findings for a fault of running machines."""
    return _OTHERWISE_CALLED.get(fault.value) or Kind(fault.value)


def running_faults(exam: Examination) -> Iterator[Finding]:
    """Yields the faults of the processes that have images of the herd open, and of machines whose disks here were deleted."""
    if exam.look is None:
        return
    from cowherd.live.running_faults import faults_of

    by_pid = {one.pid: one for one in exam.look.all}
    saved: dict[Key, str] = {}
    for found in faults_of(exam.look, exam.merging):
        kind, one = kind_of(found.fault), by_pid.get(found.pid) if found.pid else None
        path = _place(exam, one, found)
        lost = _lost_image(one, found) if one and kind in _OTHERWISE_CALLED.values() else None
        if path and lost is None:
            yield Finding(kind, os.fspath(path), f"{describe(one.holder)}: {found.detail}" if one else found.detail)
        elif path and lost and one and one.is_machine and lost.key not in saved:
            saved[lost.key] = next(
                name for name in _names_for(lost.path) if not os.path.lexists(name) and name not in saved.values()
            )
            yield _finding_of_lost(kind, path, one, lost, saved[lost.key])


def _place(exam: Examination, one: Running | None, found: Found) -> Path | None:
    """Returns the image of the herd that a fault is about, None if it is about another file.

    A fault of a process as a whole is one of the image that it runs on; one of no process that is seen is one of the herd.
    """
    opened = {image.path: exam.runs.key_of(image.key) for image in one.images} if one else {}
    if found.image:
        image = exam.lineage.images.get(opened[found.image]) if found.image in opened else None
        listed = exam.lineage.was_listed(os.path.dirname(found.image))
        return image.path if image else as_path(found.image) if listed else None
    if one is None:
        return as_path(next(iter(exam.lineage.directories)))
    known = [key for key in opened.values() if key in exam.lineage.images]
    on = [key for key in known if any(machine.holder.pid == one.pid for machine in exam.runs.machines.get(key, ()))]
    return next((exam.lineage.images[key].path for key in (*on, *known)), None)


def _lost_image(one: Running, found: Found) -> OpenImage | None:
    """Returns the open file that has no name any more, None if the fault is only about a name: the file has another one."""
    return next((image for image in one.images if image.gone and image.path == found.image), None)


def _finding_of_lost(kind: Kind, path: Path, one: Running, lost: OpenImage, saved: str) -> Finding:
    what = (
        "another file has its name, while the one that it was" if kind is Kind.RUNNING_ON_REPLACED else "it was deleted, while it"
    )
    detail = (
        f"{what} is still open in {describe(one.holder)}: when that stops, it is gone. Keep it from stopping, "
        f"pause it ('virsh suspend', or 'stop' in QEMU's monitor), and copy the file"
    )
    return Finding(kind, os.fspath(path), detail, ("cp", "--sparse=always", lost.descriptor, saved))


def _names_for(path: str) -> Iterator[str]:
    yield f"{path}.rescued"
    for number in range(2, 1 << 20):
        yield f"{path}.rescued{number}"


def not_asked(exam: Examination) -> Iterator[str]:
    """Yields why machines were not asked, though they have a monitor, where that is no fault of theirs."""
    if exam.look:
        from cowherd.live.running_faults import Fault, faults_of

        faults = {found.detail for found in faults_of(exam.look, exam.merging) if found.fault is Fault.NOT_ANSWERING}
        errors = [str(one.monitor_error) for one in exam.look.all if one.monitor_error]
        yield from dict.fromkeys(error for error in errors if error not in faults)
