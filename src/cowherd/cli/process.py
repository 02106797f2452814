"""The life of a process that runs one command: how it begins, what signals do to it, and how it ends.

It is short, so what Python does for long-lived ones is left out. Looking for cycles of dead objects while modules load finds
none, and taking every module apart at the end frees memory that the kernel frees anyway: together they are a fifth of what a
command costs that only looks at an image.
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
"""What a shell adds to the number of the signal that ended a command."""
_STOPPING = (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)
_NO_NAMES = ("", "-c", "__main__.py", "main.py")
_PATIENCE_SECONDS = 1.0
_SOON_SECONDS = 0.001


class Stopped(KeyboardInterrupt):
    """A signal asks the process to end. Raised in the main thread, wherever it is: what was half done is tidied up on the way."""


def run(main: Callable[[], int], name: str = "cowherd", unreported: int = 1) -> NoReturn:
    """Runs `main` and ends the process with the exit code that it returns, its output written. `SystemExit` ends it as usual.

    What a signal stops ends with 128 and its number, without a traceback. Where standard output could not take all that was
    printed, standard error says so in the name of the program, and that the work itself was done; what would have ended with 0
    ends with `unreported` then.
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
    """Starts the program anew in Python's UTF-8 mode if names of files are something else in this locale.

    Names in images and records are bytes that are kept as UTF-8, and most often are. A process that takes the host's names for
    Latin-1 would look for other files than the overlay names, and tell other names than its neighbour in another locale does.
    """
    if sys.getfilesystemencoding() == "utf-8" or not sys.executable or streams.ENCODING_OPTION in sys._xoptions:
        return
    shown = next((stream.encoding for stream in (sys.stdout, sys.stderr) if stream is not None), "ascii")
    option = f"{streams.ENCODING_OPTION}={shown}"
    os.execv(sys.executable, [sys.executable, "-X", "utf8", "-X", option, *sys.orig_argv[1:]])


class _Signals:
    """What is done about signals that ask the process to end: the first one raises `Stopped`, once.

    One that comes a second later or more, when the tidying up takes too long for somebody, ends the process on the spot.
    """

    def __init__(self) -> None:
        self.stopped_by = 0
        self._since = 0.0
        self._ending = False

    def hear(self) -> None:
        """Begins to listen to those that are not ignored (as in `nohup`, or behind `&` in a script)."""
        sys.unraisablehook = self._not_raised
        for number in _STOPPING:
            if _signal.getsignal(number) in (_signal.SIG_DFL, _signal.default_int_handler):
                _signal.signal(number, self._stop)

    def end(self) -> None:
        """The work is over: a signal ends the process now, whatever it still waits for."""
        self._ending = True

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        from time import monotonic

        now = monotonic()
        if self._ending or (self.stopped_by and now - self._since > _PATIENCE_SECONDS):
            os._exit(_SIGNALED + number)
        if not self.stopped_by:
            self.stopped_by, self._since = number, now
            raise Stopped

    def _not_raised(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Raises it once more, soon, where Python could not let it go on: it came in a callback or a destructor."""
        if not isinstance(unraisable.exc_value, Stopped):
            sys.__unraisablehook__(unraisable)
            return
        import _thread

        number, self.stopped_by = self.stopped_by, 0
        _thread.start_new_thread(_interrupt_soon, (number,))


def _interrupt_soon(number: int) -> None:
    import time

    time.sleep(_SOON_SECONDS)  # in which the callback ends
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
