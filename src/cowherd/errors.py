"""The errors that several layers share.

Every error cowherd raises on purpose descends from `CowherdError`. Each class has a stable exit code, keeps
its facts as attributes, and its message says what, where, and what to do next. Names that come from outside
(paths, names stored in images) are escaped when printed.

Exit codes: 1 the operation failed, 2 wrong usage, 3 refused because dependents would be harmed, 4 drift or
damage found.
"""

from __future__ import annotations

import errno
import os

from cowherd.paths import as_path
from cowherd.text import counted, current_directory, overlays_depend, printable, shown
from cowherd.urls import Url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike
    from pathlib import Path
    from typing import Self

    from cowherd.urls import ImageName

PREVIEWED_NAMES = 3


def preview(paths: Sequence[str | PathLike[str]]) -> str:
    """Returns the names of the first few of `paths`, escaped, and the number of the rest."""
    first = ", ".join(shown(path) for path in paths[:PREVIEWED_NAMES])
    rest = len(paths) - PREVIEWED_NAMES
    return f"{first} and {rest} more" if rest > 0 else first


def _path_or_url(name: ImageName) -> Path | Url:
    """Returns what an error keeps of the name of an image: a file's path, or the address of one that lies elsewhere."""
    return name if isinstance(name, Url) else as_path(name)


class CowherdError(Exception):
    """Root of all errors that cowherd raises on purpose."""

    exit_code = 1

    def facts(self) -> dict[str, object]:
        """Returns the error's attributes by name."""
        return dict(vars(self))


class InvalidRequest(CowherdError):
    """The caller asked for something that makes no sense: a bad size, an unknown option, a range past the end."""

    exit_code = 2

    def __init__(self, problem: str):
        super().__init__(problem)
        self.problem = problem


class HostFileError(CowherdError, OSError):
    """The host refused an operation on a file.

    It is an `OSError`, too, with `errno`, `strerror` and `filename`: within cowherd, code that turns an `OSError` into this error
    must let this one pass first.

    Attributes: `path`, `action` (what was tried, as in "open"), `reason` (the host's own words), `errno`.
    """

    def __init__(self, path: ImageName, action: str, error: OSError):
        self.path, self.action, self.reason = _path_or_url(path), action, error.strerror or str(error)
        OSError.__init__(self, error.errno, self.reason, str(self.path))

    def __str__(self) -> str:
        return f"Could not {self.action} '{printable(self.path)}': {self.reason}"

    def __reduce__(self) -> tuple[object, ...]:
        return _remade, (type(self), self.errno, vars(self))  # OSError's own way is for classes that take what OSError takes

    def facts(self) -> dict[str, object]:
        """Returns the attributes, but for those that `OSError` has and that say the same."""
        return {"path": self.path, "action": self.action, "errno": self.errno} | vars(self)

    @classmethod
    def named_by(cls, error: OSError) -> Self:
        """Returns an error about the file that `error` itself names; it must name one."""
        name = error.filename
        return cls(f"file descriptor {name}" if isinstance(name, int) else os.fsdecode(name), "use", error)


def _remade(kind: type[HostFileError], number: int | None, attributes: dict[str, object]) -> HostFileError:
    """Returns an error that came from another process as it was there."""
    error = kind.__new__(kind)
    vars(error).update(attributes)
    OSError.__init__(error, number, error.reason, str(error.path))
    return error


class HostError(CowherdError):
    """The host refused an operation, and its error names no file. Attributes: `reason` (the host's own words), `errno`."""

    def __init__(self, error: OSError):
        self.errno, self.reason = error.errno, error.strerror or str(error)

    def __str__(self) -> str:
        return self.reason


def error_of_host(error: OSError) -> HostFileError | HostError:
    """Turns an OSError that no layer handled into an error that can be shown."""
    if error.filename is not None:
        return HostFileError.named_by(error)
    if error.errno == errno.ENOENT and not current_directory():
        return HostFileError(".", "use", FileNotFoundError(errno.ENOENT, "the current directory is not there any more"))
    return HostError(error)


class FlushFailed(HostFileError):
    """The host could not make written bytes durable. It may have dropped them, and a second flush may succeed all the same.

    Attributes: those of `HostFileError`.
    """

    def __init__(self, path: str | PathLike[str], error: OSError):
        super().__init__(path, "flush", error)

    def __str__(self) -> str:
        return (
            f"{super().__str__()}; what was last written to it may be lost, and nothing more is written to it. "
            f"See to its disk first, then do this again"
        )


class RemoteFileError(HostFileError):
    """A server did not give what was asked of it. Attributes: those of `HostFileError`; `path` is a `Url`."""

    def __init__(self, url: Url, action: str, reason: str):
        super().__init__(url, action, OSError(errno.EIO, reason))


class ImageFormatError(CowherdError):
    """A file is not a valid image of its format. Attributes: `path`, `problem`."""

    def __init__(self, path: ImageName, problem: str):
        self.path, self.problem = _path_or_url(path), problem

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.problem}"


class UnsupportedFeature(CowherdError):
    """A valid image needs a feature that cowherd does not have. Attributes: `path`, `feature`."""

    def __init__(self, path: ImageName, feature: str):
        self.path, self.feature = _path_or_url(path), feature

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.feature} is not supported; use qemu-img for this image"


class ImageCorrupt(CowherdError):
    """An image is marked corrupt, or its tables contradict each other where a write would have to trust them.

    Attributes: `path`, `problem`.
    """

    def __init__(self, path: ImageName, problem: str):
        self.path, self.problem = _path_or_url(path), problem

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.problem}; the image can only be read until 'qemu-img check -r all' has repaired it"


class BackingFileError(CowherdError):
    """A backing file can't be followed. Attributes: `overlay`, `backing` (the name as stored), `problem`."""

    def __init__(self, overlay: ImageName, backing: str, problem: str):
        self.overlay, self.backing, self.problem = _path_or_url(overlay), backing, problem

    def __str__(self) -> str:
        return f"{printable(self.overlay)}: could not open backing file '{printable(self.backing)}': {self.problem}"


class BackingNotFollowed(BackingFileError):
    """QEMU reaches a backing file in a way that cowherd does not support: over a network, or as a part of a file.

    Attributes: those of `BackingFileError`, and `files` (the local files that it consists of).
    """

    def __init__(self, overlay: ImageName, backing: str, problem: str, files: Sequence[str] = ()):
        super().__init__(overlay, backing, problem)
        self.files = tuple(files)


class ReadOnlyImage(CowherdError):
    """A caller tried to change an image that is open read-only. Attribute: `path`."""

    def __init__(self, path: ImageName):
        self.path = _path_or_url(path)

    def __str__(self) -> str:
        return f"{printable(self.path)} is open read-only; open it with writable=True to change it"


class ImageInUse(CowherdError):
    """Another process has the image open in a way that excludes this use, with or without a lock that says so.

    Attributes: `path`, `lock` (QEMU's name of the permission, as in "write"; "" if no lock was in the way), `shared` (True: the
    other process uses the permission, which this use can't share; False: it denies the permission to others), `holders` (lines
    that name the processes; `cowherd.live.holders` fills them in), `hint` (what would work instead, or "").
    """

    def __init__(
        self, path: str | PathLike[str], lock: str, *, shared: bool = False, holders: Sequence[str] = (), hint: str = ""
    ):
        self.path, self.lock, self.shared, self.holders, self.hint = as_path(path), lock, shared, tuple(holders), hint

    def __str__(self) -> str:
        held = f" Open in: {'; '.join(self.holders)}." if self.holders else ""
        rest = f"{held} {self.hint}" if self.hint else held
        if not self.lock:
            return f"{shown(self.path)} is in use, without locks that would say so.{rest}"
        return (
            f'Failed to get {"shared " if self.shared else ""}"{self.lock}" lock\n'
            f"Is another process using the image [{printable(self.path)}]?{rest}"
        )


class NotEnoughSpace(CowherdError):
    """A plan needs more space than a file system has. Attributes: `path` (a file on it), `needed`, `free` (bytes)."""

    def __init__(self, path: str | PathLike[str], needed: int, free: int):
        self.path, self.needed, self.free = as_path(path), needed, free

    def __str__(self) -> str:
        return (
            f"the file system of {printable(self.path)} has {self.free} bytes free, and up to {self.needed} are needed; "
            f"nothing was changed"
        )


class _DependentsHarmed(CowherdError):
    """A change was refused, since `dependents` would read other content."""

    exit_code = 3

    def __init__(self, base: str | PathLike[str], action: str, dependents: Sequence[str | PathLike[str]] = ()):
        self.base, self.action = as_path(base), action
        self._dependents = tuple(os.fspath(path) for path in dependents)

    @property
    def dependents(self) -> tuple[Path, ...]:
        """The overlays concerned, made into paths only here: they may be very many, and a message names three."""
        return tuple(map(as_path, self._dependents))

    def facts(self) -> dict[str, object]:
        """Returns the attributes; `dependents` as names."""
        return {"base": self.base, "action": self.action, "dependents": self._dependents}


class BaseInUse(_DependentsHarmed):
    """Overlays that depend on a base would show other content after a change of it.

    Attributes: `base`, `action` (what was refused, as in "commit into"), `dependents`.
    """

    def __str__(self) -> str:
        return (
            f"refusing to {self.action} {shown(self.base)}: it is the base of "
            f"{counted(len(self._dependents), 'other overlay')}, {preview(self._dependents)}, which would read other content. "
            f"Give them a base of their own first (cowherd-img rebase), or give up their content with --break-dependents"
        )


class BaseSealed(_DependentsHarmed):
    """A change of a sealed image was refused. Attributes: `base`, `action`, `dependents` (may be empty)."""

    def __str__(self) -> str:
        hit = f"; {overlays_depend(len(self._dependents))} on it: {preview(self._dependents)}" if self._dependents else ""
        return (
            f"refusing to {self.action} {shown(self.base)}: it is sealed{hit}. "
            f"'cowherd clone' makes an overlay to write to; 'cowherd unseal' gives up the seal"
        )


class SnapshotsWouldChange(CowherdError):
    """Internal snapshots of overlays, which read the base too, would show other content.

    Attributes: `image` (what was to be changed), `action` (what was refused, as in "commit"), `snapshots` (pairs of an overlay's
    path and the name of one of its snapshots), `remedy` (what else to do, in words).
    """

    exit_code = 3

    def __init__(
        self,
        image: str | PathLike[str],
        action: str,
        snapshots: Sequence[tuple[str | PathLike[str], str]],
        remedy: str = "or give up what they show (--break-dependents of cowherd-img)",
    ):
        self.image, self.action, self.remedy = as_path(image), action, remedy
        self.snapshots = tuple((as_path(path), name) for path, name in snapshots)

    def __str__(self) -> str:
        first = ", ".join(f"'{printable(name)}' of {shown(path)}" for path, name in self.snapshots[:PREVIEWED_NAMES])
        rest = len(self.snapshots) - PREVIEWED_NAMES
        return (
            f"refusing to {self.action} {shown(self.image)}: {counted(len(self.snapshots), 'internal snapshot')} would show "
            f"other content, {first}{f' and {rest} more' if rest > 0 else ''}. Copy out what is needed of them "
            f"('qemu-img convert -l') and delete them ('qemu-img snapshot -d'), {self.remedy}"
        )

    def facts(self) -> dict[str, object]:
        """Returns the attributes; `snapshots` as an object for each."""
        named = [{"path": os.fspath(path), "name": name} for path, name in self.snapshots]
        return dict(vars(self)) | {"snapshots": named}
