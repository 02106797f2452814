"""Logs a command of either program when it ends: this is the only place that writes to the log.

Here all facts come together: which command it was, how it ended, and which images it has changed, as the layers below have noted
them right before each change (`cowherd.herd.log.concerned`). A program that imports cowherd is not logged.
"""

from __future__ import annotations

import contextlib
import os
import time

from cowherd import notes
from cowherd.errors import CowherdError, error_of_host
from cowherd.herd.log.concerned import file_at, gathering

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cowherd.herd.log.concerned import Files
    from cowherd.herd.log.entry import Entry, Subject
    from cowherd.paths import PathName


class Outcome:
    """How a command has ended: its exit code, and why that is not 0. The command fills it in; an error does so by itself."""

    def __init__(self) -> None:
        self.exit_code = 0
        self.problem = ""

    def failed(self, error: CowherdError) -> None:
        """Takes both from an error."""
        self.exit_code, self.problem = error.exit_code, str(error)


@contextlib.contextmanager
def log_command(program: str, command: str, named: Iterable[PathName] = ()) -> Iterator[Outcome]:
    """Runs a command, as the block, and logs it. `named` are the images that its command line names.

    A command that has to do with no image that was there is not logged. A log that can't be written is a note, and no error.
    """
    outcome = Outcome()
    with gathering(named) as files:
        try:
            yield outcome
        except CowherdError as error:
            outcome.failed(error)
            raise
        except OSError as error:
            outcome.failed(error_of_host(error))
            raise
        except KeyboardInterrupt:
            from cowherd.herd.log.entry import INTERRUPTED

            outcome.exit_code = INTERRUPTED
            raise
        finally:
            _write(program, command, files, outcome)


def _write(program: str, command: str, files: Files, outcome: Outcome) -> None:
    """Writes entries with so many images each that a reader takes them."""
    if not files:
        return  # as for most new images: then nothing more is loaded
    from cowherd.herd.log.entry import MOST_IMAGES, to_line
    from cowherd.herd.log.file import append

    subjects = _subjects(files)
    parts = [tuple(subjects[start : start + MOST_IMAGES]) for start in range(0, len(subjects), MOST_IMAGES)]
    if parts:
        try:
            append(b"".join(to_line(_entry(program, command, part, outcome)) for part in parts))
        except OSError as error:
            notes.say(f"what was done is not in the log: {error_of_host(error)}")


def _subjects(files: Files) -> list[Subject]:
    """Returns the images as they were and as they are, each once."""
    from cowherd.herd.log.entry import Subject

    known = set(files.values())
    before = [Subject(path, *file) for path, file in files.items() if file]
    after = [Subject(path, *file, file not in known) for path in files if (file := file_at(path))]
    return list(dict.fromkeys([*before, *after]))


def _entry(program: str, command: str, images: tuple[Subject, ...], outcome: Outcome) -> Entry:
    from cowherd.herd.log.entry import Entry
    from cowherd.live.owners import user_name

    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sudo_user = os.environ.get("SUDO_USER", "")
    return Entry(now, user_name(os.geteuid()), sudo_user, program, command, images, outcome.exit_code, outcome.problem)
