"""Finds merges that run or were interrupted, and refuses to change the images that they concern before `recover`."""

from __future__ import annotations

import errno
import os

from cowherd.errors import CowherdError, HostFileError
from cowherd.herd.records.journal import SUFFIX, Seen, journal_path, look_at
from cowherd.herd.records.ownership import is_journal
from cowherd.paths import as_path
from cowherd.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.paths import PathName


class MergePending(CowherdError):
    """A merge that concerns an image runs or was interrupted, so that nothing else may change the image.

    Attributes: `image`, `action` (what was refused), `journal`, `running`.
    """

    exit_code = 3

    def __init__(self, image: Path, action: str, journal: Path, *, running: bool):
        self.image, self.action, self.journal, self.running = image, action, journal, running

    def __str__(self) -> str:
        merge = f"a merge that concerns it {'is running' if self.running else 'was interrupted'}"
        return f"refusing to {self.action} {shown(self.image)}: {merge}; {_advice(self.journal, self.running)}"


class Pending:
    """The journals that lie beside the images of a herd, and which image each concerns."""

    def __init__(self, lineage: Lineage, *, as_scanned: bool = False):
        """Looks for journals; with `as_scanned` among those that existed when the herd was scanned."""
        paths = _journals_as_scanned(lineage) if as_scanned else _journals_near(lineage)
        self.journals = tuple(seen for path in paths if (seen := look_at(path)))
        self._concerned: dict[Key, Seen] = {}
        for seen in self.journals:
            for path in _images_of(seen):
                image = lineage.known(path)
                if image:
                    self._concerned.setdefault(image.key, seen)

    def concerning(self, image: Image) -> Seen | None:
        """Returns the journal of a merge that `image` takes part in or depends on, or None."""
        return self._concerned.get(image.key)

    def notes(self) -> tuple[str, ...]:
        """Returns a sentence about each merge, for people."""
        return tuple(describe(seen) for seen in self.journals)


def describe(seen: Seen) -> str:
    """Returns a sentence about a journal: which merge, in what state, and what to do."""
    advice = _advice(seen.path, seen.running)
    if seen.entry is None:
        return f"{seen.problem}"
    merge = f"the merge of {shown(seen.entry.overlay)} into {shown(seen.entry.base)}"
    return f"{merge} {'is running' if seen.running else 'was interrupted'}; {advice}"


def require_none(lineage: Lineage, images: Iterable[Image], action: str) -> None:
    """Raises `MergePending` if a merge that runs or was interrupted concerns one of `images`."""
    pending = Pending(lineage)
    for image in images if pending.journals else ():
        seen = pending.concerning(image)
        if seen:
            raise MergePending(image.path, action, seen.path, running=seen.running)


def journals_in(directory: PathName) -> list[Path]:
    """Returns the journals directly in a directory, none if it is gone. Raises `HostFileError` if it can't be read."""
    try:
        named = sorted(as_path(directory, name) for name in os.listdir(directory) if name.endswith(SUFFIX))
    except FileNotFoundError:  # it existed when the herd was scanned
        return []
    except OSError as error:
        raise HostFileError(directory, "look through", error) from error
    return [path for path in named if is_journal(path)]


def _journals_near(lineage: Lineage) -> list[Path]:
    """Lists every directory in which an image lies, also directories outside of the herd to which a link led."""
    return sorted(
        path for directory, there in _by_directory(lineage.images.values()).items() for path in _journals_in(directory, there)
    )


def _journals_as_scanned(lineage: Lineage) -> list[Path]:
    """Returns what `_journals_near` returns, without listing directories again that the scan has listed."""
    near = _by_directory(lineage.images.values()) if lineage.journals else {}
    met = (path for path in map(as_path, lineage.journals) if os.fspath(path.parent) in near)
    found = [path for path in met if is_journal(path)]
    for directory, there in _by_directory(lineage.strays).items():
        if not lineage.was_listed(directory):
            found += _journals_in(directory, there)
    return sorted(found)


def _by_directory(images: Iterable[Image]) -> dict[str, list[Image]]:
    """Returns images by the directories in which they lie, as paths without symbolic links."""
    named: dict[str, list[Image]] = {}
    for image in images:
        filename = image.filenames[0]
        named.setdefault(filename[: filename.rindex("/")] or "/", []).append(image)
    real: dict[str, list[Image]] = {}
    for directory, there in named.items():
        real.setdefault(os.path.realpath(directory), []).extend(there)
    return real


def _journals_in(directory: str, images: list[Image]) -> list[Path]:
    """Returns the journals in a directory. If it may be entered but not listed, looks them up by the names of its images."""
    try:
        return journals_in(directory)
    except HostFileError as error:
        if error.errno != errno.EACCES:
            raise
        return [path for path in map(journal_path, (image.path for image in images)) if is_journal(path)]


def _images_of(seen: Seen) -> tuple[Path, ...]:
    if seen.entry is None:
        return (seen.path.with_name(seen.path.name.removesuffix(SUFFIX)),)
    made = (seen.entry.fork,) if seen.entry.fork else ()
    return (*seen.entry.images, *made)


def _advice(journal: Path, running: bool) -> str:
    if running:
        return "wait for it"
    return f"'cowherd recover {shown(journal.parent)}' finishes it or takes it back"
