"""Options and values that several commands share."""

from __future__ import annotations

from cowherd.cli.img.errors import CommandFailed, UsageError
from cowherd.cli.img.options import Arguments, Option
from cowherd.sizes import INT64_MAX, SizeError, SizeRangeError, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cowherd.formats.qcow2.snapshots import Snapshot

CACHE_MODES = ("none", "off", "writeback", "directsync", "unsafe", "writethrough")
"""qemu-img's cache modes. They are accepted and checked only: cowherd writes through the page cache and flushes its results."""


def number_between(name: str, low: int = 0, high: int = INT64_MAX) -> Callable[[str], int]:
    """Returns a converter of an option's text into a size of `low`..`high`; its messages call the option `name`."""

    def convert(text: str) -> int:
        outside = f"Invalid {name} specified. Must be between {low} and {high}."
        try:
            value = parse_size(text)
        except SizeRangeError as error:
            raise CommandFailed(outside) from error
        except SizeError as error:
            raise CommandFailed(f"Invalid {name} specified: '{text}'.") from error
        if not low <= value <= high:
            raise CommandFailed(outside)
        return value

    return convert


def _output_format(text: str) -> str:
    if text not in ("human", "json"):
        raise UsageError(f"--output expects 'human' or 'json' not '{text}'")
    return text


def option_list(text: str) -> str:
    """Returns a list of -o unchanged.

    Refuses a list that can't be joined to others by a comma: a doubled comma stands for one inside a value.
    """
    trailing = len(text) - len(text.rstrip(","))
    if not text or text.startswith(",") or trailing % 2:
        raise CommandFailed(f"Invalid option list: {text}")
    return text


def _no_object(text: str) -> str:
    raise CommandFailed("--object is not supported: cowherd has neither encryption nor other user-creatable objects")


FORMAT = Option("format", "f", "FMT", "format of the image, raw or qcow2; without it the first bytes of the file decide")
IMAGE_OPTS = Option("image-opts", help="FILENAME is driver=FMT,file.filename=NAME instead of a name (excludes --format)")
FORCE_SHARE = Option("force-share", "U", help="open the image although another process may be writing to it")
OBJECT = Option("object", "", "OBJDEF", "refused: there is no encryption", _no_object)
OUTPUT = Option("output", "", "human|json", "how to print the result (default: human)", _output_format)
QUIET = Option("quiet", "q", help="print nothing but errors")
PROGRESS = Option("progress", "p", help="show progress")
OPTIONS = Option("options", "o", "FMT_OPTS", "format-specific options, as name=value[,...] ('-o help' lists them)", option_list)
CACHE = Option("cache", "t", "CACHE", "cache mode of the image; accepted, and checked, for qemu-img's sake")
RATE = Option("rate", "r", "RATE", "I/O rate limit; accepted for qemu-img's sake, and ignored", number_between("rate limit"))
BREAK_DEPENDENTS = Option(
    "break-dependents", help="make the change although dependents of an image would then read other content, or it is sealed"
)

FILENAME = ("FILENAME", "the image file (or its description, with --image-opts)")


def cache_mode(arguments: Arguments, key: str, what: str, exit_code: int = 1) -> None:
    """Raises `CommandFailed` for an unknown cache mode; `what` ("cache", "source cache") is its name in the message."""
    mode = arguments.text(key)
    if mode is not None and mode not in CACHE_MODES:
        raise CommandFailed(f"Invalid {what} option: {mode}", exit_code)


def one_filename(arguments: Arguments) -> str:
    """Returns the only operand."""
    if len(arguments.operands) != 1:
        raise UsageError("Expecting one image file name")
    return arguments.operands[0]


def wants_json(arguments: Arguments) -> bool:
    """Returns whether --output=json was given."""
    return arguments.text("output") == "json"


def no_snapshot(snapshots: Sequence[Snapshot], wanted: str | None) -> None:
    """Refuses to read an internal snapshot if one is `wanted`: an id, a name, or snapshot.id=ID,snapshot.name=NAME."""
    if wanted is None:
        return
    names = [item.partition("=")[2] for item in wanted.split(",")] if wanted.startswith("snapshot.") else [wanted]
    if not any(name in (snapshot.id, snapshot.name) for name in names for snapshot in snapshots):
        raise CommandFailed("Failed to load snapshot: Can't find snapshot")
    raise CommandFailed("Failed to load snapshot: cowherd-img does not read internal snapshots; use qemu-img")
