"""qemu-img's words for the errors of the layers below."""

from __future__ import annotations

import errno

from cowherd.cli.img.errors import CannotOpen, CommandFailed
from cowherd.errors import (
    BackingFileError,
    CowherdError,
    HostFileError,
    ImageFormatError,
    ImageInUse,
    RemoteFileError,
    UnsupportedFeature,
)
from cowherd.paths import as_path
from cowherd.urls import Url

REFUSED = 3
"""The exit code of a change that dependents would see; its message is cowherd's own for every command."""

_ABOUT_ONE_FILE = (HostFileError, ImageFormatError, ImageInUse, UnsupportedFeature)


def explain(error: CowherdError) -> str:
    """Returns the message of `error` to print after the program's name."""
    if isinstance(error, CommandFailed):
        return error.message
    if isinstance(error, BackingFileError):
        return f"Could not open '{error.overlay}': {reason(error)}"
    if isinstance(error, ImageFormatError | ImageInUse) or (isinstance(error, HostFileError) and error.action == "open"):
        return f"Could not open '{error.path}': {reason(error)}"
    return reason(error)


def reason(error: CowherdError, name: str | None = None) -> str:
    """Returns why an image could not be opened or made, without its name at the begin.

    `name` is the file's name as the user typed it; an error's own path may be written differently.
    """
    if isinstance(error, CannotOpen):
        return error.problem
    if isinstance(error, RemoteFileError) and error.action == "open":
        return error.reason
    if isinstance(error, HostFileError) and error.action == "open":
        shown = name or error.path
        if error.errno == errno.EISDIR:
            return f"'file' driver requires '{shown}' to be a regular file"
        return f"Could not open '{shown}': {error.reason}"
    if isinstance(error, ImageFormatError):
        return error.problem
    if isinstance(error, ImageInUse):
        return _with_holders(error)
    if isinstance(error, BackingFileError):
        return f"Could not open backing file: {error.problem}"
    return str(error)


class opening:  # noqa: N801  # it is used as a function is, with `with`
    """Turns errors about the file at `path` into messages that name the image as it was typed, with `exit_code`."""

    def __init__(self, text: str, path: str | Url, exit_code: int = 1) -> None:
        self.text, self.path, self.exit_code = text, path, exit_code

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, _ABOUT_ONE_FILE) and error.path == (self.path if isinstance(self.path, Url) else as_path(self.path)):
            raise CannotOpen(self.text, reason(error, str(self.path)), self.exit_code) from error


class prefixed:  # noqa: N801
    """Puts `prefix` before every message, as qemu-img does when it makes an image; the gate's refusals stay as they are."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, CowherdError) and error.exit_code != REFUSED:
            message = error.message if isinstance(error, CommandFailed) else reason(error)
            raise CommandFailed(self.prefix + message) from error


def _with_holders(error: ImageInUse) -> str:
    """Returns the message with the names of the processes that have the image open, as far as they can be seen."""
    from cowherd.live.holders import naming_holders

    try:
        with naming_holders():
            raise error
    except ImageInUse as named:
        return str(named)
