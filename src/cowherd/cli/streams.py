"""Standard input, output and error for every command: output that can't be printed never ends the work.

The caller of a program decides where its output goes: nowhere (`>&-`), a full disk, a pipe whose reader has gone, an encoding
of forty years ago. Work of minutes must not fail, or look as if it had failed, because of that. So a program first of all puts
streams in place on which writing never raises, and at its end it checks what became of the output.
"""

from __future__ import annotations

import errno
import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from typing_extensions import Buffer

ENCODING_OPTION = "cowherd_encoding"
"""The -X option that tells a process that was started again in UTF-8 mode the encoding of its terminal."""

_READER_GONE = (errno.EPIPE, errno.ECONNRESET)


class Output(io.FileIO):
    """A file descriptor to write to. Keeps the first error in `failure`, and drops everything that is written after it."""

    failure: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        """Writes all of `data` and returns its length. Waits if another process has made the descriptor non-blocking."""
        left = memoryview(data).cast("B")
        length = len(left)
        try:
            while left and self.failure is None:
                written = super().write(left)
                if written is None:
                    _wait(self.fileno())
                else:
                    left = left[written:]
        except OSError as error:
            self.failure = error
        return length


class Input(io.FileIO):
    """A file descriptor to read from. Errors are `HostFileError`."""

    def readinto(self, buffer: Buffer, /) -> int:
        """Fills a part of `buffer` and returns its length. Waits if another process has made the descriptor non-blocking."""
        try:
            while (filled := super().readinto(buffer)) is None:
                _wait(self.fileno(), reading=True)
        except OSError as error:
            from cowherd.errors import HostFileError

            raise HostFileError("standard input", "read", error) from error
        return filled


def put_in_place() -> None:
    """Replaces the standard streams by ones on which writing never raises, with the same encodings.

    Characters that the encoding lacks are written as escapes. A closed descriptor leads to /dev/null from now on: otherwise the
    next file to be opened, perhaps an image, would get its number, and everything that is printed with it.
    """
    for number in range(3):
        if not _is_open(number):
            os.set_inheritable(_open_nothing(number), True)  # as what programs that this one starts expect
    given = Input(0 if sys.stdin else _open_nothing(), closefd=False)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(given), "utf-8", "surrogateescape")
    sys.stdout = _output(sys.stdout, 1)
    sys.stderr = _output(sys.stderr, 2)


def lost_output() -> OSError | None:
    """Writes all that is still buffered. Returns why standard output did not take all of it, None if it did.

    Returns None also if its reader has gone: it has read as much as it wanted (`| head -1`).
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        _flush(stream)
    buffer = getattr(sys.stdout, "buffer", None)
    failure = getattr(getattr(buffer, "raw", buffer), "failure", None)
    return None if failure is None or failure.errno in _READER_GONE else failure


def can_show(text: str) -> bool:
    """Returns whether standard output's encoding has all characters of `text`."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):  # LookupError: a stream that somebody else put in place
        return False
    return True


def _output(before: TextIO | None, number: int) -> TextIO:
    if before is None:  # what has the number now, if anything, is not meant for our words
        return io.TextIOWrapper(Output(_open_nothing(), "w"), "utf-8", "backslashreplace", write_through=True)
    raw = Output(number, "w", closefd=False)
    direct = getattr(before, "write_through", False)  # python -u
    return io.TextIOWrapper(
        raw if direct else io.BufferedWriter(raw),  # unbuffered, as Python's own are then
        sys._xoptions.get(ENCODING_OPTION) or before.encoding,
        "backslashreplace",
        newline="\n",
        line_buffering=getattr(before, "line_buffering", False),
        write_through=direct,
    )


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except (OSError, ValueError):  # it is not ours yet, or somebody has closed it
        return


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _open_nothing(number: int | None = None) -> int:
    """Opens a file that is empty and accepts any output, as descriptor `number` (which must be free) if it is given."""
    try:
        found = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # a root directory without devices
        found = os.memfd_create("nothing")
    if number is not None and found != number:
        os.dup2(found, number)
        os.close(found)
    return found if number is None else number


def _wait(number: int, *, reading: bool = False) -> None:
    import select

    waiting = select.poll()
    waiting.register(number, select.POLLIN if reading else select.POLLOUT)
    waiting.poll()
