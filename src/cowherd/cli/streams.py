"""Standard input, output and error as every command finds them: no word that can't be printed ends a job.

Whoever starts a program decides what its words go to: nothing (`>&-`), a full disk, a pipe whose reader has gone, an encoding
of forty years ago. A job of minutes must not fail, or be taken for failed, because of that. So the first thing that a program
does is to put streams in place on which writing never raises; at its end it asks what became of the words.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from typing_extensions import Buffer

ENCODING_OPTION = "cowherd_encoding"
"""The name after -X by which a process that was started anew in UTF-8 mode knows what its terminal's encoding is."""

_READER_GONE = (errno.EPIPE, errno.ECONNRESET)


class Output(io.FileIO):
    """A file descriptor to write to. The first error is kept in `failure`; whatever is written after it is dropped."""

    failure: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        """Writes all of `data`, waiting where another process made the descriptor one that doesn't; returns how much that is."""
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
        """Fills a part of `buffer`, waiting where another process made the descriptor one that doesn't; returns how much."""
        try:
            while (filled := super().readinto(buffer)) is None:
                _wait(self.fileno(), reading=True)
        except OSError as error:
            from cowherd.errors import HostFileError

            raise HostFileError("standard input", "read", error) from error
        return filled


def put_in_place() -> None:
    """Replaces the standard streams by such that never raise when written to, in the encodings that they had.

    Characters that the encoding lacks are written as escapes. A descriptor that was closed leads to nothing from now on: else the
    next file that is opened, an image perhaps, would get its number, and with it what anybody prints.
    """
    for number in range(3):
        if not _is_open(number):
            os.set_inheritable(_open_nothing(number), True)  # as what programs that this one starts expect
    given = Input(0 if sys.stdin else _open_nothing(), closefd=False)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(given), "utf-8", "surrogateescape")
    sys.stdout = _output(sys.stdout, 1)
    sys.stderr = _output(sys.stderr, 2)


def lost_output() -> OSError | None:
    """Writes what is still buffered; returns why standard output did not take all of it, None if it did or its reader has gone.

    A reader that went away has what it wanted (`| head -1`).
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):  # they are not ours yet, or somebody has closed them
            stream.flush()
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


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _open_nothing(number: int | None = None) -> int:
    """Opens what is empty and takes anything, as descriptor `number` if it is given; that one is free."""
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
