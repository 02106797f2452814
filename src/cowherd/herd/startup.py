"""Whether a machine may start: the chains of all its images are as sealed, and none that it writes to is a base of others."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from cowherd.errors import BaseInUse, BaseSealed, HostFileError, preview
from cowherd.formats.reference import BackingReference
from cowherd.herd.gate import guard_start
from cowherd.herd.lineage import Lineage, survey_chains
from cowherd.herd.status import Status
from cowherd.herd.verify import Checker
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cowherd.herd.digest import Progress
    from cowherd.herd.scan import Image
    from cowherd.live.machine.drive import Drive

DRIFT, HARM = 4, 3
NOT_VERIFIED = "not-verified"
IN_USE, SEALED = "base-in-use", "base-sealed"


@dataclass(frozen=True)
class Answer:
    """What there is to say of one drive.

    `status` is one of `Status`, or "not-verified" for what is no local file (or is not there, which the machine itself will
    say), or "base-in-use" or "base-sealed" for a base that the guest would write to. `image` is the file that it is said of:
    the drive's own or one below it. `exit_code` is 0 unless it is a reason not to start.
    """

    drive: Drive
    status: str
    image: Path | None = None
    detail: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class Start:
    """The answers for all drives of a machine, in their order; `exit_code` is 0 if it may start, else 4 or 3."""

    answers: tuple[Answer, ...]

    @property
    def refusals(self) -> tuple[Answer, ...]:
        """The answers that are reasons not to start."""
        return tuple(answer for answer in self.answers if answer.exit_code)

    @property
    def exit_code(self) -> int:
        """4 where anything has drifted, 3 where the guest would only harm others, 0 if the machine may start."""
        return max((answer.exit_code for answer in self.answers), default=0)


def check_start(
    drives: Sequence[Drive],
    *,
    full: bool = False,
    strict: bool = False,
    dependents: bool = True,
    herd: Sequence[str | os.PathLike[str]] = (),
    progress: Progress | None = None,
) -> Start:
    """Checks the chains of all `drives` as `verify` does; with `full` by reading the content of what is sealed.

    A base of which only owner, mode or other attributes changed is let through, since whoever starts machines changes those
    (libvirt gives images to the user that runs QEMU); `strict` refuses it. With `dependents`, a drive that the guest writes
    to must be no base of others in its directory and `herd`; without, only a sealed one is noticed.
    Raises `HostFileError` for an image that can't be looked at.
    """
    local = [drive for drive in drives if _is_there(drive)]
    lineage = survey_chains(_images(local), _backing(local))
    checker = Checker(full=full, progress=progress)
    tolerant = not (strict or full)
    answers = []
    for drive in drives:
        answer = _missing(drive) if drive not in local else _of_chain(lineage, checker, drive, tolerant=tolerant)
        if not answer.exit_code and drive.writable and drive in local:
            answer = _of_dependents(lineage, answer, herd if dependents else None)
        answers.append(answer)
    return Start(tuple(answers))


def _is_there(drive: Drive) -> bool:
    if drive.path is None:
        return False
    try:
        os.stat(drive.path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HostFileError(drive.path, "look at", error) from error
    return True


def _images(drives: Iterable[Drive]) -> list[tuple[Path, str | None]]:
    named = [(drive.path, drive.format) for drive in drives if drive.path]
    return named + [(below.path, below.format) for drive in drives for below in drive.below if below.path.exists()]


def _backing(drives: Iterable[Drive]) -> dict[Path, BackingReference | None]:
    """Returns, for each image of which the description says so, on what it stands."""
    found: dict[Path, BackingReference | None] = {}
    for drive in drives:
        assert drive.path
        above = drive.path
        for below in drive.below:
            found[above] = BackingReference(os.fspath(below.path), below.format)
            above = below.path
        if drive.ends:
            found[above] = None
    return found


def _missing(drive: Drive) -> Answer:
    return Answer(drive, NOT_VERIFIED, drive.path, drive.remote or "there is no such file")


def _of_chain(lineage: Lineage, checker: Checker, drive: Drive, *, tolerant: bool) -> Answer:
    """Returns the deepest thing that is wrong with a chain: what is above suffers from it."""
    assert drive.path
    top = lineage.known(drive.path)
    if top is None:
        return Answer(drive, NOT_VERIFIED, drive.path, "neither a file nor a block device")
    let_through = ""
    for image in reversed(lineage.chain(top)):
        row = checker.check(lineage, image)
        if not row.status.is_fine:
            if not (tolerant and row.only_attributes):
                return Answer(drive, row.status, row.path, row.detail, DRIFT)
            let_through = let_through or f"let through: {printable(row.path)}: {row.detail}"
    answer = Answer(drive, row.status, drive.path, let_through or row.detail)
    return _without_base(drive, top) or answer


def _without_base(drive: Drive, top: Image) -> Answer | None:
    """Refuses an overlay that was bound to a base and is to be opened without one."""
    if drive.ends and not drive.below and top.binding is not None:
        return Answer(drive, Status.MISSING_BASE, top.path, "it is to be opened without the base that it was made on", DRIFT)
    return None


def _of_dependents(lineage: Lineage, answer: Answer, herd: Sequence[str | os.PathLike[str]] | None) -> Answer:
    """Refuses a drive that the guest would write to while others stand on it; `herd` None: only one with a seal."""
    assert answer.drive.path
    top = lineage.known(answer.drive.path)
    try:
        if herd is not None:
            guard_start(answer.drive.path, herd=herd)
        elif top and top.seal:
            raise BaseSealed(top.path, "write to")
    except (BaseSealed, BaseInUse) as error:
        status = SEALED if isinstance(error, BaseSealed) else IN_USE
        return replace(answer, status=status, image=error.base, detail=_harm(error), exit_code=HARM)
    return answer


def _harm(error: BaseSealed | BaseInUse) -> str:
    what = ["it is sealed"] if isinstance(error, BaseSealed) else []
    dependents = error.dependents
    if dependents:
        what.append(f"{len(dependents)} overlay(s) stand on it, {preview(dependents)}")
    return f"the guest would write to it, and {' and '.join(what)}; 'cowherd clone' makes an overlay to write to"
