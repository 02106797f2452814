"""The lines of the log: what they say, as values and as JSON, one object a line."""

from __future__ import annotations

from cowherd.herd.records import checked
from cowherd.jsontext import write_json
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INTERRUPTED = -1
"""The exit code in the entry of a command that a signal ended."""

MOST_IMAGES = 200
_TEXTS = ("time", "user", "sudo_user", "program", "command", "problem")
_LONGEST_PROBLEM = 500
_BETWEEN = (", ", ": ")
_LARGEST_CODE = 1000
_LARGEST_NUMBER = (1 << 64) - 1  # of a device or an inode


class Subject(NamedTuple):
    """An image in an entry: its path without symbolic links, and the file that was there: its device and inode number.

    `is_new`: the command made that file. An image that got another name, or another file, is in an entry with both.
    """

    path: str
    device: int
    inode: int
    is_new: bool = False

    @property
    def file(self) -> tuple[int, int]:
        """Identifies the file under all of its names."""
        return self.device, self.inode


class Entry(NamedTuple):
    """One command: when it ended (ISO 8601, UTC), who gave it, what it was, the images, its exit code, and why that is not 0.

    `user` is the name of the process's user, `sudo_user` who called sudo, "" if nobody did (anybody can set that by hand).
    """

    time: str
    user: str
    sudo_user: str
    program: str
    command: str
    images: tuple[Subject, ...]
    exit_code: int
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd log --json` prints them."""
        return {**self._asdict(), "images": [image._asdict() for image in self.images]}


def to_line(entry: Entry) -> bytes:
    """Returns an entry as a line of the log, in ASCII."""
    fields = entry._replace(problem=entry.problem[:_LONGEST_PROBLEM]).to_json()
    return write_json(fields, between=_BETWEEN).encode("ascii") + b"\n"  # this escapes surrogates in names that are no text


def mark_of(command: str) -> bytes:
    """Returns what every line about a command holds, so that others need not be read."""
    return b'"command": %s' % write_json(command).encode("ascii")


def mark_of_file(inode: int) -> bytes:
    """Returns what every line about a file of that inode number holds; others may hold it, too."""
    return b'"inode": %d' % inode


def from_line(line: bytes) -> Entry:
    """Reads a line. Raises ValueError where it makes no sense."""
    fields = checked.load_record(line)
    time, user, sudo_user, program, command, problem = (checked.text(checked.field(fields, name)) for name in _TEXTS)
    images = tuple(_subject(checked.dictionary(one)) for one in checked.row(checked.field(fields, "images"), MOST_IMAGES))
    return Entry(time, user, sudo_user, program, command, images, _code(checked.field(fields, "exit_code")), problem)


def _code(value: object) -> int:
    return INTERRUPTED if value == INTERRUPTED else checked.whole(value, _LARGEST_CODE)


def _subject(fields: dict[str, Any]) -> Subject:
    path = checked.path_name(checked.field(fields, "path"))
    device, inode = (checked.whole(checked.field(fields, name), _LARGEST_NUMBER) for name in ("device", "inode"))
    return Subject(path, device, inode, checked.yes_or_no(checked.field(fields, "is_new")))
