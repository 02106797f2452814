"""Decides whether a machine may start: the chains of its images must be as sealed, and it must not write to a base of others."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.errors import BackingFileError, BaseInUse, BaseSealed, HostFileError, preview
from cowherd.formats import registry
from cowherd.formats.probe import probe
from cowherd.formats.reference import BackingReference
from cowherd.herd.gate.gate import guard_start
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.scan import Found
from cowherd.herd.lineage.survey import survey_chains
from cowherd.herd.records.header import Head, read_image
from cowherd.herd.records.sealplace import is_sealed
from cowherd.herd.records.sealrecord import SUFFIX
from cowherd.herd.records.status import Status
from cowherd.herd.seals.verify import Checker
from cowherd.image.backing import has_protocol, path_of
from cowherd.live.machine.drive import Below, Drive
from cowherd.live.machine.foreign import named_by
from cowherd.live.machine.stacked import files_below
from cowherd.paths import path_names
from cowherd.progress import of_each
from cowherd.storage.hostfile import HostFile
from cowherd.storage.presence import require_directories
from cowherd.text import overlays_stand, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from cowherd.herd.lineage.scan import Image
    from cowherd.paths import PathName, PathNames
    from cowherd.progress import Progress, Reading

DRIFT, HARM, UNCLEAR = 4, 3, 1
NO_FILE = "there is no such file"
NOT_VERIFIED, NOT_UNDERSTOOD = "not-verified", "not-understood"
IN_USE, SEALED = "base-in-use", "base-sealed"
_MOST_SHARED = 20_000
"""Entries of a directory that a guest may write to, up to which the directory is searched for sealed images."""


@dataclass(frozen=True)
class Answer:
    """The answer for one file of a machine.

    `status` is one of `Status`; or "not-verified" if there is no local file (the machine itself reports a missing one);
    "not-understood" if it is not known which files QEMU will open or what it does with one; "base-in-use" or "base-sealed" for a
    base that the guest would write to. `image` is the file that the answer is about: the drive's own or one below it.
    `exit_code` is 0 unless the answer is a reason not to start.
    """

    drive: Drive
    status: str
    image: Path | None = None
    detail: str = ""
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd hook check --json` prints them."""
        return {
            "where": self.drive.where,
            "path": os.fspath(self.drive.path) if self.drive.path else None,
            "writable": self.drive.writable,
            "status": str(self.status),
            "image": os.fspath(self.image) if self.image else None,
            "detail": self.detail,
            "refused": bool(self.exit_code),
        }


@dataclass(frozen=True)
class Start:
    """The answers for all files of a machine, in the order of its drives; `exit_code` is 0 if it may start, else 4, 3 or 1."""

    answers: tuple[Answer, ...]

    @property
    def refusals(self) -> tuple[Answer, ...]:
        """The answers that are reasons not to start."""
        return tuple(answer for answer in self.answers if answer.exit_code)

    @property
    def exit_code(self) -> int:
        """4 if an image has drifted; else 3 if the guest would harm other images; else 1 if a file is not understood."""
        return max((answer.exit_code for answer in self.answers), default=0)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd hook check --json` prints them."""
        return {"may_start": not self.exit_code, "drives": [answer.to_json() for answer in self.answers]}


def check_start(
    drives: Sequence[Drive],
    *,
    full: bool = False,
    strict: bool = False,
    dependents: bool = True,
    herd: Sequence[PathName] = (),
    allow_unknown: bool = False,
    directory: PathName = ".",
    reading: Reading | None = None,
) -> Start:
    """Checks the chains of all `drives` as `verify` does; with `full` it reads the content of sealed images.

    It accepts a base of which only owner, mode or other attributes changed, since starting a machine changes those (libvirt gives
    images to the user that runs QEMU); `strict` refuses it. With `dependents`, a drive that the guest writes to must not be the
    base of others in its herd, nor of any in `herd`; without, only a sealed one is refused. A file that is not understood is a
    reason not to start, unless `allow_unknown`. `directory` is the working directory of QEMU.
    `reading(name)` is called before an image is read, and returns a progress for that, or None.
    Raises `HostFileError` if an image can't be read, or a directory of `herd` does not exist.
    """
    require_directories(herd)
    judge = Judge(full=full, strict=strict, herd=herd if dependents else None, directory=directory, reading=reading)
    judge.look_at(drives)
    answers = [answer for drive in drives for answer in judge.answers(drive)]
    if allow_unknown:
        answers = [replace(answer, exit_code=0) if answer.status == NOT_UNDERSTOOD else answer for answer in answers]
    return Start(tuple(answers))


def check_domain(
    xml: str | bytes,
    *,
    full: bool = False,
    strict: bool = False,
    dependents: bool = True,
    herd: PathNames = (),
    allow_unknown: bool = False,
    progress: Progress | None = None,
) -> Start:
    """Checks all images of a libvirt domain, given by its XML, as the hook does before a start. Arguments as `check_start`.

    The result's `exit_code` is 0 if the domain may start. Raises `MachineUnclear` for XML that is no domain's, `HostFileError`.
    """
    from cowherd.live.machine.domain import drives_of

    drives = drives_of(xml.encode("utf-8", "surrogateescape") if isinstance(xml, str) else xml)
    how = {"full": full, "strict": strict, "dependents": dependents, "allow_unknown": allow_unknown}
    return check_start(drives, **how, herd=path_names(herd), directory="/", reading=of_each(progress))


class Judge:
    """Judges the files of a machine one by one. Options as in `check_start`; with `herd` None it searches for no overlays."""

    def __init__(
        self,
        *,
        full: bool,
        strict: bool,
        herd: Sequence[PathName] | None,
        directory: PathName,
        reading: Reading | None,
    ):
        self._full, self._reading, self._strict = full, reading, strict
        self._herd, self._directory = herd, directory
        self._together = Lineage(Found())
        self._checker = Checker(full=full, strict=strict, reading=reading)

    def look_at(self, drives: Iterable[Drive]) -> None:
        """Surveys the chains of all drives that their own headers define, together, so that each image is checked only once."""
        chains = [drive.path for drive in drives if drive.path and _follows_headers(drive) and _is_file(_mode_of(drive))]
        self._together = survey_chains([(path, registry.OVERLAY) for path in chains], {})

    def answers(self, drive: Drive) -> Iterator[Answer]:
        """Yields the answers for a drive and for the files that it is made of."""
        mode = _mode_of(drive)
        if drive.unknown:
            yield Answer(drive, NOT_UNDERSTOOD, drive.path, drive.unknown, UNCLEAR)
        if _is_file(mode):
            yield from self._answers_of_file(drive)
        elif mode is not None and stat.S_ISDIR(mode) and not drive.plain:
            yield _judge_directory(drive)
        elif not (drive.unknown or drive.plain):
            yield Answer(drive, NOT_VERIFIED, drive.path, drive.remote or _why_not(mode))

    def _answers_of_file(self, drive: Drive) -> Iterator[Answer]:
        path = drive.path
        assert path
        if drive.format is None:
            drive = replace(drive, format=_probed(path))
        drive = _with_foreign_base(drive, self._directory)
        if drive.format == "qcow":  # the herd takes it for a qcow2 image with a broken header, so its base is judged by itself
            if drive.below and drive.below[0].path:
                base, *more = drive.below
                where = f"{drive.where}, the base of {path}"
                under = replace(drive, where=where, path=base.path, format=base.format, writable=False, below=tuple(more))
                yield from self.answers(under)
            drive = replace(drive, format=registry.RAW.name, below=(), ends=False)
        if _follows_headers(drive) and self._together.known(path):
            lineage, checker = self._together, self._checker
        else:
            # In a lineage of its own, since another drive's chain may read as qcow2 what this one reads as raw.
            backing = _backing(drive, self._directory)
            lineage = survey_chains(_images(drive, backing), backing)
            checker = Checker(full=self._full, strict=self._strict, reading=self._reading)
        top = lineage.known(path)
        if top is None:
            yield Answer(drive, NOT_UNDERSTOOD, path, "it can't be read", UNCLEAR)
            return
        answer = _judge_chain(lineage, checker, drive, top)
        if not answer.exit_code and drive.writable:
            answer = _judge_dependents(answer, top, self._herd)
        if not answer.exit_code and drive.below_remote:
            answer = replace(answer, status=NOT_VERIFIED, detail=f"its backing file is {drive.below_remote}")
        yield answer
        yield from self._answers_beside(drive, lineage.chain(top))

    def _answers_beside(self, drive: Drive, chain: Sequence[Image]) -> Iterator[Answer]:
        """Yields answers for the files that images of a chain name beside backing files, and for files below block devices."""
        for depth, image in enumerate(chain):
            writable = drive.writable and depth == 0
            named = named_by(image.path, image.format, self._directory)
            unknown = named.unknown or ("its backing file is not followed" if named.backing and image.backing is None else "")
            if (depth and unknown) or named.unknown:
                yield Answer(drive, NOT_UNDERSTOOD, image.path, unknown, UNCLEAR)
            own_parts = () if depth == 0 and drive.data_named else named.parts
            parts = [(part, "a part of") for part in own_parts if part != image.path]
            parts += [(file, "what lies below") for file in files_below(image.path)]
            for path, what in parts:
                yield from self.answers(Drive(f"{drive.where}, {what} {image.path}", path, registry.RAW.name, writable=writable))


def _mode_of(drive: Drive) -> int | None:
    """Returns the mode of a drive's file, None if it does not exist. Raises `HostFileError`."""
    if drive.path is None:
        return None
    try:
        return os.stat(drive.path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HostFileError(drive.path, "look at", error) from error


def _is_file(mode: int | None) -> bool:
    return mode is not None and (stat.S_ISREG(mode) or stat.S_ISBLK(mode))


def _why_not(mode: int | None) -> str:
    return NO_FILE if mode is None else "neither a file nor a block device"


def _follows_headers(drive: Drive) -> bool:
    """Returns whether a drive is a qcow2 image whose own header, and those below it, define its chain."""
    if drive.below or drive.ends or drive.path is None or not _is_file(_mode_of(drive)):
        return False
    return registry.named(drive.format or _probed(drive.path)).backing


def _probed(path: Path) -> str:
    with HostFile.open(path, lock=None) as file:
        return probe(file)


def _judge_directory(drive: Drive) -> Answer:
    """Refuses a directory that the guest may write to if a sealed image lies in it; gives up after `_MOST_SHARED` entries."""
    assert drive.path
    seen = 0
    for place, directories, names in os.walk(drive.path) if drive.writable else ():
        seen += len(directories) + len(names)
        for name in names:
            image = os.path.join(place, name.removesuffix(SUFFIX))
            if name.endswith(SUFFIX) and os.path.exists(image) and is_sealed(image):
                detail = f"the guest could write to {printable(image)} in it, which is sealed; let it only read the directory"
                return Answer(drive, SEALED, drive.path, detail, HARM)
        if seen > _MOST_SHARED:
            return Answer(drive, NOT_VERIFIED, drive.path, f"a directory, of which {_MOST_SHARED} entries were looked at")
    what = "no sealed image lies in it" if drive.writable else "the guest only reads it"
    return Answer(drive, NOT_VERIFIED, drive.path, f"a directory; {what}")


def _with_foreign_base(drive: Drive, directory: PathName) -> Drive:
    """Adds to a drive, in a format that the herd does not read, the backing file that its header names."""
    assert drive.path
    assert drive.format
    if registry.named(drive.format).backing or drive.below or drive.ends:
        return drive
    backing = named_by(drive.path, drive.format, directory).backing
    if backing is None:
        return drive
    try:
        path = path_of(drive.path, backing)
    except BackingFileError as error:
        return replace(drive, ends=True, below_remote=f"{printable(backing.name)}: {error.problem}")
    return replace(drive, below=(Below(Path(os.path.abspath(path)), backing.format),))


def _backing(drive: Drive, directory: PathName) -> dict[Path, BackingReference | None]:
    """Returns the backing files that the machine's description gives, by the images above them."""
    assert drive.path
    found: dict[Path, BackingReference | None] = {}
    above, image_format = drive.path, drive.format
    for below in drive.below:
        recorded = _recorded(above, image_format, directory)
        if below.path is None and recorded is None:
            return found  # there is no backing file that the description could say more about
        name = recorded.name if below.path is None and recorded else os.fspath(below.path or "")
        reference = BackingReference(name, below.format or (recorded.format if recorded else None))
        found[above] = reference
        try:
            above, image_format = Path(os.path.abspath(path_of(above, reference))), reference.format
        except BackingFileError:
            return found  # the check of its chain reports the problem
    if drive.ends:
        found[above] = None
    return found


def _recorded(path: Path, image_format: str | None, directory: PathName) -> BackingReference | None:
    """Returns the backing file in an image's own header."""
    known = None if image_format is None else registry.named(image_format)
    if not path.exists() or (known is not None and known.verbatim):
        return None
    if known is not None and not known.backing:
        return named_by(path, known.name, directory).backing
    content = read_image(os.fspath(path)).content
    return content.backing if isinstance(content, Head) else None


def _images(drive: Drive, backing: Mapping[Path, BackingReference | None]) -> list[tuple[Path, str | None]]:
    """Returns the drive's image and the backing files that the description gives, with their formats."""
    assert drive.path
    found: list[tuple[Path, str | None]] = [(drive.path, drive.format)]
    for above, reference in backing.items():
        if reference:
            path = Path(os.path.abspath(path_of(above, reference))) if not has_protocol(reference.name) else None
            found += [(path, reference.format)] if path and path.exists() else []
    return found


def _judge_chain(lineage: Lineage, checker: Checker, drive: Drive, top: Image) -> Answer:
    """Returns the answer for a chain: of several problems the deepest one, since it affects all images above."""
    let_through = ""
    for image in reversed(lineage.chain(top)):
        row = checker.check(lineage, image)
        if not row.status.is_fine:
            return Answer(drive, row.status, row.path, row.detail, DRIFT)
        if row.status is Status.ATTRIBUTES:
            let_through = let_through or f"let through: {printable(row.path)}: {row.detail}"
    answer = Answer(drive, row.status, drive.path, let_through or row.detail)
    return _judge_missing_base(drive, top) or answer


def _judge_missing_base(drive: Drive, top: Image) -> Answer | None:
    """Refuses an overlay with a binding that the machine opens without a base."""
    if drive.ends and not (drive.below or drive.below_remote) and top.binding is not None:
        return Answer(drive, Status.MISSING_BASE, top.path, "it is to be opened without the base that it was made on", DRIFT)
    return None


def _judge_dependents(answer: Answer, top: Image, herd: Sequence[PathName] | None) -> Answer:
    """Refuses a drive that the guest would write to if it has dependents or a seal; with `herd` None only for a seal."""
    drive = answer.drive
    assert drive.path
    if drive.plain and _probed(drive.path) == registry.UNRECOGNISED and not top.seal:
        return answer  # almost certainly a log: not worth a search of its directory for overlays
    try:
        if herd is not None:
            guard_start(drive.path, herd=herd)
        elif top.seal:
            raise BaseSealed(top.path, "write to")
    except (BaseSealed, BaseInUse) as error:
        status = SEALED if isinstance(error, BaseSealed) else IN_USE
        return replace(answer, status=status, image=error.base, detail=_harm_in_words(error, drive), exit_code=HARM)
    return answer


def _harm_in_words(error: BaseSealed | BaseInUse, drive: Drive) -> str:
    what = ["it is sealed"] if isinstance(error, BaseSealed) else []
    dependents = error.dependents
    if dependents:
        what.append(f"{overlays_stand(len(dependents))} on it, {preview(dependents)}")
    harm = f"{'QEMU' if drive.plain else 'the guest'} would write to it, and {' and '.join(what)}"
    return harm if drive.plain else f"{harm}; 'cowherd clone' makes an overlay to write to"
