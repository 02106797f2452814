"""Runs one command in a process: its begin, its signals, and its end.

The process is short-lived, so it does without what Python does for long-lived ones. A search for cycles of dead objects while
modules load finds none, and taking every module apart at the end frees memory that the kernel frees anyway. Together they are a
fifth of the cost of a command that only looks at an image.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` wraps in enumerations, which take longer to load than a header
import gc
import os
import sys

from cowherd.cli import streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

_OBJECTS_BETWEEN_COLLECTIONS = 1_000_000  # with Python's 700 a herd of 100,000 images takes a quarter longer
_SIGNALED = 128
"""The exit code of a command that a signal ended is this plus the signal's number, as a shell reports it."""
_STOPPING = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)
_NO_NAMES = ("", "-c", "__main__.py", "main.py")
_PATIENCE_SECONDS = 1.0
_SOON_SECONDS = 0.001
_IMPORTER, _LOADS = "<frozen importlib._bootstrap_external>", ("create_module", "exec_module")


class Stopped(KeyboardInterrupt):
    """A signal asks the process to end. Raised in the main thread, wherever it is, so that handlers clean up on the way out."""


def run(main: Callable[[], int], name: str = "cowherd", unreported: int = 1) -> NoReturn:
    """Runs `main`, writes the rest of its output, and ends the process with its exit code. `SystemExit` ends it as usual.

    After a signal, the exit code is 128 plus its number, and there is no traceback. If standard output could not take all of the
    output, standard error says so, in the name of the program, and that the work itself was done; an exit code of 0 then becomes
    `unreported`.
    """
    _use_utf8()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    leave: Callable[[int], NoReturn] = os._exit
    try:
        _signals.hear()
        streams.put_in_place()
        try:
            code = main()
        except SystemExit as ending:
            code, leave = _code_of(ending), sys.exit
        if _signals.stopped_by and code:
            code = _SIGNALED + _signals.stopped_by  # an error that says what the interruption has left
        lost = streams.lost_output()
        if lost is not None:
            _complain(name, lost, code)
            code = code or unreported
        _signals.end()
    except BaseException as error:
        if not (_signals.stopped_by or isinstance(error, KeyboardInterrupt)):
            raise
        code = _SIGNALED + (_signals.stopped_by or _signal.SIGINT)
        _signals.end()
        streams.lost_output()
    leave(code)


def _use_utf8() -> None:
    """Starts the program again in Python's UTF-8 mode if this locale decodes names of files otherwise.

    Names in images and records are bytes, decoded as UTF-8, which they usually are. A process that decodes the host's names as
    Latin-1 would look for other files than those that the overlay names, and print other names than a process in another locale.
    """
    if sys.getfilesystemencoding() == "utf-8" or not sys.executable or streams.ENCODING_OPTION in sys._xoptions:
        return
    shown = next((stream.encoding for stream in (sys.stdout, sys.stderr) if stream is not None), "ascii")
    option = f"{streams.ENCODING_OPTION}={shown}"
    os.execv(sys.executable, [sys.executable, "-X", "utf8", "-X", option, *sys.orig_argv[1:]])


class _Signals:
    """Handles signals that ask the process to end: the first one raises `Stopped`, once.

    A further signal at least a second later ends the process on the spot, because the cleaning up takes somebody too long.
    """

    def __init__(self) -> None:
        self.stopped_by = 0
        self._since = 0.0
        self._ending = False

    def hear(self) -> None:
        """Starts to handle those signals that are not ignored (as with `nohup`, or with `&` in a script)."""
        sys.unraisablehook = self._not_raised
        for number in _STOPPING:
            if _signal.getsignal(number) in (_signal.SIG_DFL, _signal.default_int_handler):
                _signal.signal(number, self._stop)

    def end(self) -> None:
        """Lets a signal end the process at once from now on, because the work is over."""
        self._ending = True

    def _stop(self, number: int, frame: FrameType | None) -> None:
        from time import monotonic

        now = monotonic()
        if self._ending or (self.stopped_by and now - self._since > _PATIENCE_SECONDS):
            os._exit(_SIGNALED + number)
        if self.stopped_by:
            return
        if _is_loading(frame):
            _interrupt_soon(number)
            return
        self.stopped_by, self._since = number, now
        raise Stopped

    def _not_raised(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Raises `Stopped` once more, soon, if Python dropped it because it came in a callback or a destructor."""
        if not isinstance(unraisable.exc_value, Stopped):
            sys.__unraisablehook__(unraisable)
            return
        number, self.stopped_by = self.stopped_by, 0
        _interrupt_soon(number)


def _is_loading(frame: FrameType | None) -> bool:
    """Returns whether a module is being loaded: one in C, as numpy has, prints what is raised then, and raises another error."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTER and frame.f_code.co_name in _LOADS:
            return True
        frame = frame.f_back
    return False


def _interrupt_soon(number: int) -> None:
    """Sends this process a signal in a moment, in which a callback or a bit of loading ends."""
    import _thread

    _thread.start_new_thread(_send_in_a_moment, (number,))


def _send_in_a_moment(number: int) -> None:
    import time

    time.sleep(_SOON_SECONDS)
    os.kill(os.getpid(), number)


_signals = _Signals()


def _code_of(ending: SystemExit) -> int:
    if ending.code is None or isinstance(ending.code, int):
        return ending.code or 0
    print(ending.code, file=sys.stderr)
    return 1


def _complain(name: str, lost: OSError, code: int) -> None:
    called = os.path.basename(sys.argv[0])
    name = name if called in _NO_NAMES else called
    done = "the command itself was carried out" if code == 0 else f"the command itself ended with exit code {code}"
    print(f"{name}: could not write to standard output: {lost.strerror or lost}; {done}", file=sys.stderr)
    sys.stderr.flush()
