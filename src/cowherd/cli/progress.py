"""The one-line progress display of QEMU's tools: `    (12.34/100%)`, rewritten in place on standard output."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # see cowherd.cli.process
import contextlib
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cowherd.progress import Progress


class ProgressLine:
    """Shows the progress of an operation if `enabled`; a context manager that ends the line.

    `step` is the change in percent below which nothing is printed, so that fast operations don't flood the terminal.
    Enabled or not, SIGUSR1 prints the progress on standard error, as with QEMU's tools.
    """

    def __init__(self, enabled: bool, step: float = 1.0):
        self._enabled, self._step = enabled, step
        self._percent, self._shown = 0.0, -1.0
        self._handler_before: Callable[..., object] | int | None = None

    def __enter__(self) -> ProgressLine:
        with contextlib.suppress(ValueError):  # only in the main thread Python sets handlers
            self._handler_before = _signal.signal(_signal.SIGUSR1, self._tell)
        self.show(0.0)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._handler_before is not None:
            _signal.signal(_signal.SIGUSR1, self._handler_before)
        if self._enabled:
            sys.stdout.write("\n")
            sys.stdout.flush()

    @property
    def callback(self) -> Progress:
        """The function that an operation calls with (bytes done, bytes in all), from any thread."""
        return self._update

    def finish(self) -> None:
        """Shows 100 percent."""
        self.show(100.0)

    def show(self, percent: float) -> None:
        """Shows `percent` if it is the beginning, the end, or far enough from the number shown last."""
        self._percent = percent
        if self._enabled and (percent in (0.0, 100.0) or percent > self._shown + self._step):
            self._shown = percent
            sys.stdout.write(f"    ({percent:3.2f}/100%)\r")
            sys.stdout.flush()

    def _update(self, done: int, total: int) -> None:
        percent = 100.0 * done / total if total else 100.0
        if percent < 100.0:
            self.show(percent)  # the end is shown by `finish`, once nothing can fail any more

    def _tell(self, *_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the signal came amid another line, which Python lets nobody interrupt
            sys.stderr.write(f"    ({self._percent:3.2f}/100%)\n")
