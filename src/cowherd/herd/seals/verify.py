"""Checks seals and bindings along whole chains: by identity alone, or by reading everything again."""

from __future__ import annotations

import os

from cowherd.errors import BackingFileError, CowherdError, ImageFormatError, UnsupportedFeature
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import Pending, describe
from cowherd.herd.lineage.survey import survey, survey_around
from cowherd.herd.records.sealfile import check_seal
from cowherd.herd.records.status import Status
from cowherd.herd.seals.held import held_content
from cowherd.herd.seals.quick_check import FINE, NOT_YET, Condition, Conditions, may_not_be_read
from cowherd.paths import as_path, path_names
from cowherd.progress import of_each
from cowherd.storage.presence import is_directory
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.herd.records.binding import Binding
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.herd.seals.difference import Difference
    from cowherd.paths import PathNames
    from cowherd.progress import Progress, Reading

_SEVERITY = {status: number for number, status in enumerate(Status)}
_UNSEALED = Condition(Status.UNSEALED)
_NOT_AS_SEALED = (Status.TOUCHED, Status.REPLACED)
_NO_SEAL = Condition(Status.UNVOUCHED, "others stand on it, and it is not sealed")
_UNBOUND = Condition(Status.OK, "not bound to its base")


class Verified(NamedTuple):
    """The result of verify for one image: its status, and the reason in words, empty if the status needs none.

    `filename` is its path as text, `base_name` that of its backing file, None for a root. `sealed`: it has a seal of its own.
    `changed_bytes` counts the bytes in blocks that differ, None if the content was not read. `certain` is False if the image is
    fine by the times of its files, but these need not show a change.
    """

    filename: str
    status: Status
    detail: str
    sealed: bool
    base_name: str | None = None
    changed_bytes: int | None = None
    certain: bool = True

    @property
    def path(self) -> Path:
        """`filename` as a path."""
        return as_path(self.filename)

    @property
    def base(self) -> Path | None:
        """`base_name` as a path."""
        return None if self.base_name is None else as_path(self.base_name)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd verify --json` prints them."""
        return {
            "path": self.filename,
            "status": self.status.value,
            "detail": self.detail,
            "sealed": self.sealed,
            "certain": self.certain,
            "base": self.base_name,
            "changed_bytes": self.changed_bytes,
        }


def verify(
    images: PathNames = (),
    *,
    full: bool = False,
    refresh_seals: bool = False,
    strict: bool = False,
    require_sealed: bool = False,
    trusted: bytes | Iterable[bytes] = (),
    herd: PathNames = (),
    progress: Progress | None = None,
    reading: Reading | None = None,
) -> list[Verified]:
    """Checks `images` and their chains; without images, the whole herd (of the current directory, if `herd` is empty). A
    directory among the images stands for all that lie under it.

    The quick form compares the identities of files, and reads no data. `full` reads and compares the content of every sealed
    image that it meets; if `refresh_seals` is given too, a seal whose content is unchanged gets the file's identity as it is now.
    `strict` counts a file as touched if only its attributes changed. `require_sealed`: every base must have a seal. `trusted` are
    Ed25519 public keys of 32 bytes: every base must have a seal that is signed with one of them. The result has bases before
    their overlays. `reading(name)` is called before each image is read, and returns a progress of its own for it, or None.
    Raises `HostFileError` if an image or a directory does not exist.
    """
    images, herd = path_names(images), path_names(herd)
    checker = Checker(
        full=full,
        refresh_seals=refresh_seals,
        strict=strict,
        require_sealed=require_sealed,
        trusted=(trusted,) if isinstance(trusted, bytes) else tuple(trusted),
        reading=reading or of_each(progress),
    )
    directories = [path for path in images if is_directory(path)]
    files = [path for path in images if path not in directories]
    rows: dict[Key, Verified] = {}
    gone: list[Verified] = []
    if not files or directories:
        lineage = survey([*directories, *(herd if not files else ())] or ["."])
        rows = {image.key: checker.check(lineage, image) for _, image, _ in lineage.walk()}
        gone = [
            Verified(os.fspath(path), Status.MISSING_BASE, "its seal is there, but it is not", sealed=True)
            for path in lineage.orphans
        ]
    if files:
        lineage = survey_around(*files, herd=herd)
        for image in (image for path in files for image in reversed(lineage.chain(lineage.find(path)))):
            if image.key not in rows:
                rows[image.key] = checker.check(lineage, image)
    return [*rows.values(), *gone]


class Checker:
    """Checks images of one herd, each only once, and reads the content of each only once.

    `full` reads that of all sealed images, `doubtful` at least that of images whose files are not as sealed. With `doubtful`, an
    image that can't be read keeps the condition that its files have, and `unread` says why; else the error is raised.
    `differences` are those of the images that were read, and of those in `known`, which the caller has read before.
    """

    def __init__(
        self,
        *,
        full: bool,
        doubtful: bool = False,
        known: Mapping[Key, Difference] | None = None,
        refresh_seals: bool = False,
        strict: bool = False,
        require_sealed: bool = False,
        trusted: tuple[bytes, ...] = (),
        reading: Reading | None = None,
    ):
        self.full, self.refresh_seals, self.trusted = full, refresh_seals, trusted
        self._reading = reading or of_each(None)
        self.strict, self.require_sealed = strict, require_sealed
        self.doubtful, self._known = doubtful, known or {}
        self.differences: dict[Key, Difference] = {}
        self.unread: dict[Key, str] = {}
        self._conditions: dict[Key, Condition] = {}
        self._of_overlays: dict[tuple[Key, bytes | None], Condition] = {}
        self._contents: dict[Key, bytes | None] = {}
        self._pending: Pending | None = None
        self._quick: Conditions | None = None

    def check(self, lineage: Lineage, image: Image) -> Verified:
        """Returns the result for `image`."""
        base = lineage.parent(image)
        found = self.condition(lineage, image, base)
        broken = lineage.broken(image)
        difference = self.differences.get(image.key)
        return Verified(
            filename=image.filename,
            status=found.status,
            detail=found.detail,
            sealed=lineage.seal(image) is not None,
            base_name=base.filename if base else os.fspath(broken.path) if broken and broken.path else None,
            changed_bytes=None if difference is None else difference.changed_bytes,
            certain=found.certain,
        )

    def condition(self, lineage: Lineage, image: Image, base: Image | None) -> Condition:
        """Returns the condition of `image`. `base` is its parent in the lineage."""
        if base and self._depends_only_on_base(lineage, image):
            place = base.key, image.binding.content_digest if image.binding else None
            found = self._of_overlays.get(place)
            if found is None:
                found = self._of_overlays[place] = self._judge(lineage, image)
        else:
            found = self._conditions.get(image.key)
            if found is None:
                found = self._conditions[image.key] = self._judge(lineage, image)
        return found

    def _depends_only_on_base(self, lineage: Lineage, image: Image) -> bool:
        """Returns whether base and binding alone decide an overlay's condition, so that all overlays alike share one."""
        return not (image.problem or self.trusted or lineage.seal(image) or self.merges(lineage).journals)

    def merges(self, lineage: Lineage) -> Pending:
        """Returns the merges that ran or were interrupted when the herd was scanned."""
        if self._pending is None:
            self._pending = Pending(lineage, as_scanned=True)
        return self._pending

    def _judge(self, lineage: Lineage, image: Image) -> Condition:
        found = self._find_condition(lineage, image)
        if self.strict and found.status is Status.ATTRIBUTES:
            return found._replace(status=Status.TOUCHED)
        if self.require_sealed and found.status.is_fine and lineage.seal(image) is None and lineage.children(image):
            return _NO_SEAL
        return found

    def _find_condition(self, lineage: Lineage, image: Image) -> Condition:
        broken = lineage.broken(image)
        if broken and broken.unknown:
            where = f"{printable(broken.path)}: " if broken.path else ""
            return Condition(Status.UNKNOWN, f"nobody can tell from here what its base holds: {where}{broken.problem}")
        if broken:
            return Condition(Status.MISSING_BASE, f"{printable(broken.path or broken.name)}: {broken.problem}")
        if lineage.in_loop(image):
            return Condition(Status.MISSING_BASE, "its chain is a loop")
        seen = self.merges(lineage).concerning(image)
        if seen:
            return Condition(Status.TOUCHED if seen.running else Status.MERGE_INTERRUPTED, describe(seen))
        untrusted = self._of_signature(lineage, image) if self.trusted else None
        if untrusted:
            return Condition(Status.UNTRUSTED, untrusted)
        if lineage.seal(image) is None:
            return self._of_overlay(lineage, image)
        if self._quick is None:
            self._quick = Conditions(lineage, lineage.record_of)
        quick = self._quick.of(image)
        found = self._by_content(lineage, image, quick) if self._is_to_be_read(quick) else quick
        return found if self.full else _worse(found, self._of_binding(lineage, image))

    def _of_signature(self, lineage: Lineage, image: Image) -> str | None:
        """Returns why an image, sealed or a base, has no valid signature by a trusted key; None if it has one or needs none."""
        from cowherd.herd.records.signing import problem_of

        try:
            record = lineage.record_of(image)
        except CowherdError as error:
            return str(error)
        if record:
            return problem_of(record, self.trusted) or _problem_of_generation(record)
        return "others stand on it, and it is not sealed" if lineage.children(image) else None

    def _of_overlay(self, lineage: Lineage, image: Image) -> Condition:
        base = lineage.parent(image)
        if base is None:
            return Condition(Status.UNSEALED, image.problem) if image.problem else _UNSEALED
        below = self.condition(lineage, base, lineage.parent(base))
        if below.status is Status.OK and image.binding is None:
            below = _UNBOUND if below.certain else below
        elif not below.status.is_fine and (lineage.seal(base) or below == _NO_SEAL):
            below = below._replace(detail=f"its base {printable(base.path.name)}: {below.detail}")
        own = self._of_binding(lineage, image)
        if below.status is Status.UNSEALED and own.status is Status.OK and own.detail:
            return own  # that its binding fits says more than that there is no seal
        return _worse(below, own)

    def _of_binding(self, lineage: Lineage, image: Image) -> Condition:
        """Compares the binding of an overlay with the content that its base is sealed with."""
        base = lineage.parent(image)
        if base is not None and image.binding is None and image.problem:
            return Condition(Status.BINDING_MISMATCH, image.problem)
        if base is None or image.binding is None:
            return FINE
        digest = self._content_of(lineage, base)
        if digest is not None and digest != image.binding.content_digest:
            return Condition(Status.BINDING_MISMATCH, self._mismatch(lineage, base, image.binding))
        if _record_in(lineage, base) or lineage.seal(image) or _is_hidden(lineage, base):
            return FINE
        return _condition_without_seal(base, damaged=lineage.seal(base) is not None, read=digest is not None)

    def _mismatch(self, lineage: Lineage, base: Image, binding: Binding) -> str:
        name, record = printable(base.path.name), _record_in(lineage, base)
        if record and record.seal_id == binding.seal_id and record.generation < binding.generation:
            back = f"an older seal of it is back, of generation {record.generation}, with or without the content of then"
            return f"it was made on generation {binding.generation} of {name}, and {back}"
        return f"it was made on other content than {name} holds"

    def _content_of(self, lineage: Lineage, base: Image) -> bytes | None:
        """Returns the content digest of `base`: from its seal, or without one, in the full form, by reading it; else None."""
        if base.key not in self._contents:
            self._contents[base.key] = self._find_content(lineage, base)
        return self._contents[base.key]

    def _find_content(self, lineage: Lineage, base: Image) -> bytes | None:
        record = _record_in(lineage, base)
        if record or not self.full:
            return record.content_digest if record else None
        with held_content(lineage, base, self._reading(base.filename)) as held:
            return held.content.content_digest

    def _is_to_be_read(self, quick: Condition) -> bool:
        if self.full:
            return quick.status is not Status.MISSING_BASE
        return self.doubtful and quick.status in _NOT_AS_SEALED

    def _by_content(self, lineage: Lineage, image: Image, quick: Condition) -> Condition:
        try:
            return self._read_again(lineage, image, quick)
        except CowherdError as error:
            if not self.doubtful:
                raise
            self.unread[image.key] = str(error)
            return quick._replace(detail=f"{quick.detail}; its content can't be read now: {error}".removeprefix("; "))

    def _read_again(self, lineage: Lineage, image: Image, quick: Condition) -> Condition:
        try:
            record = check_seal(image.expected_seal)
        except ImageFormatError as error:
            return Condition(Status.TOUCHED, str(error))
        try:
            return self._compare_content(lineage, image, record, quick)
        except (ImageFormatError, UnsupportedFeature, BackingFileError) as error:
            return Condition(max(quick.status, Status.DRIFTED, key=list(Status).index), f"it can't be read any more: {error}")

    def _compare_content(self, lineage: Lineage, image: Image, record: SealRecord, quick: Condition) -> Condition:
        from cowherd.herd.seals.difference import difference_of

        known = self._known.get(image.key)
        if known and not self.refresh_seals:
            self.differences[image.key] = known
            return _as_sealed(quick) if known.changed is None else _drifted(quick, known)
        with held_content(lineage, image, self._reading(image.filename)) as held:
            found = self.differences[image.key] = difference_of(image, record, held)
            if found.changed is not None:
                return _drifted(quick, found)
            if self.refresh_seals and _may_be_refreshed(quick):
                from cowherd.herd.seals.seal import refresh

                refresh(lineage, image, held)
                self._quick = None  # its dependents may be in order now: their remembered conditions are void
                return Condition(Status.OK, "its content is as sealed, and its seal now knows the file as it is")
            return _as_sealed(quick)


def _record_in(lineage: Lineage, image: Image) -> SealRecord | None:
    """Returns the record of an image's seal; None if it has no seal, or a damaged one, which vouches for nothing."""
    try:
        return lineage.record_of(image)
    except CowherdError:
        return None  # the check of the image itself reports what is wrong with its seal


def _is_hidden(lineage: Lineage, image: Image) -> bool:
    """Returns whether this user may not read the seal of an image, which the check of the image itself reports."""
    try:
        lineage.record_of(image)
    except CowherdError as error:
        return may_not_be_read(error)
    return False


def _problem_of_generation(record: SealRecord) -> str | None:
    """Returns a problem if a signed seal is older than one that this host has seen of its image; else notes its generation."""
    from cowherd.herd.lineage.book.generations import newest_generation, note_generation

    newest = newest_generation(record.seal_id)
    if newest > record.generation:
        old = f"its seal is of generation {record.generation}, and this host has seen generation {newest}"
        return f"{old}: an older one was put back"
    note_generation(record)
    return None


def _condition_without_seal(base: Image, *, damaged: bool, read: bool) -> Condition:
    """Returns the condition of an overlay with a binding whose base has no valid seal.

    `damaged`: the base has a damaged one. `read`: the base was read, and holds the content that the overlay was made on.
    """
    name, missing = printable(base.path.name), "a damaged seal" if damaged else "no seal"
    if read:
        return Condition(Status.OK, f"{name} has {missing}, and holds what it was made on; 'cowherd seal' records that again")
    how = "'verify --full' compares it with what the overlay was made on, 'cowherd seal' records it again"
    return Condition(Status.UNVOUCHED, f"{name} has {missing}, so that nothing vouches for its content; {how}")


def _as_sealed(quick: Condition) -> Condition:
    """Returns the condition of an image whose content is as sealed."""
    return FINE if quick.status is Status.OK else Condition(Status.OK, f"its content is as sealed, though {quick.detail}")


def _drifted(quick: Condition, found: Difference) -> Condition:
    return Condition(quick.status if quick.status is Status.REPLACED else Status.DRIFTED, found.describe())


def _may_be_refreshed(quick: Condition) -> bool:
    return quick.status is not Status.OK or quick.detail == NOT_YET


def _worse(one: Condition, other: Condition) -> Condition:
    if one.status is other.status is Status.OK and one.certain:
        return other if other.detail else one
    return one if other is FINE or _SEVERITY[one.status] >= _SEVERITY[other.status] else other
