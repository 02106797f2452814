"""`cowherd-img create`: a new, empty image, with a backing file or without."""

from __future__ import annotations

import contextlib
import errno

from cowherd.cli.img import format_options
from cowherd.cli.img.chains import look
from cowherd.cli.img.common import BREAK_DEPENDENTS, OBJECT, OPTIONS, QUIET, number_between
from cowherd.cli.img.errors import CannotOpen, CommandFailed, UsageError
from cowherd.cli.img.messages import prefixed
from cowherd.cli.img.options import Arguments, Example, Option, Syntax
from cowherd.cli.img.output import err, out
from cowherd.cli.img.sources import named, shown_name
from cowherd.errors import HostFileError
from cowherd.formats import registry
from cowherd.ops.info import full_backing_name
from cowherd.urls import is_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SYNTAX = Syntax(
    "create",
    "Create and format new image file",
    (
        QUIET,
        Option("format", "f", "FMT", "format of the new image, raw (the default) or qcow2"),
        OPTIONS,
        Option("backing", "b", "BACKING_FILE", "make the new image an overlay of this base"),
        Option("backing-format", "F", "BACKING_FMT", "format of the base; needed with -b"),
        Option("backing-unsafe", "u", help="do not look at the base"),
        OBJECT,
        BREAK_DEPENDENTS,
    ),
    (
        ("FILENAME", "the image to make; an existing file is overwritten unless overlays depend on it"),
        ("[SIZE]", "virtual size, with an optional suffix k, M, G, T, P or E; without it that of the base"),
    ),
    (
        Example("create -f qcow2 disk.qcow2 20G", "an empty disk"),
        Example("create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2", "an overlay: it holds only what is written from now on"),
        Example("create -f qcow2 -o help", "which options -o takes"),
    ),
)


def run(arguments: Arguments) -> int:
    """Makes the image."""
    format, lists = arguments.text("format") or registry.NEW_TARGET, arguments.texts("options")
    operands = arguments.operands
    if format_options.help_wanted(lists):
        format_options.creatable(format)
        out(format_options.help_text(format, operands[0] if operands else None))
        return 0
    if not operands:
        raise UsageError("Expecting image file name")
    size = number_between("image size")(operands[1]) if len(operands) > 1 else None
    if len(operands) > 2:
        raise UsageError(f"Unexpected argument: {operands[2]}")
    with prefixed(f"{shown_name(operands[0])}: "):
        _create(arguments, operands[0], format, size)
    return 0


def _create(arguments: Arguments, filename: str, format: str, size: int | None) -> None:
    from cowherd.changes import create

    options = _options(arguments, filename, format, size)
    backing, backing_format = options.get("backing_file"), options.get("backing_fmt")
    unsafe = arguments.flag("backing-unsafe")
    if backing is not None:
        base_size = _look_at_base(filename, backing, backing_format, unsafe=unsafe)
        if base_size is not None:
            options.setdefault("size", str(base_size))
    if "size" not in options:
        raise CommandFailed("Image creation needs a size parameter")
    if not arguments.flag("quiet"):
        out(f"Formatting '{filename}', fmt={format} {format_options.shown(format, options)}\n")
    _check(format, filename, options)
    with _naming_what_is_too_large(format):
        create(
            local_path(filename),
            int(options["size"]),
            format=format,
            options=format_options.for_the_format(options),
            backing=backing,
            backing_format=backing_format,
            unsafe=unsafe,
            break_dependents=arguments.flag("break-dependents"),
        )


@contextlib.contextmanager
def _naming_what_is_too_large(format: str) -> Iterator[None]:
    try:
        yield
    except HostFileError as error:
        if error.errno != errno.EFBIG:
            raise
        raise CommandFailed(f"The image size is too large for file format '{format}'") from error


def _options(arguments: Arguments, filename: str, format: str, size: int | None) -> dict[str, str]:
    """Returns the options from -o, -b, -F and the size operand."""
    format_options.creatable(format)
    local_path(filename)
    options = format_options.parse(arguments.texts("options"), format)
    if size is not None:
        if "size" in options:
            raise CommandFailed("The image size must be specified only once")
        options["size"] = str(size)
    backing, backing_format = arguments.text("backing"), arguments.text("backing-format")
    options |= backing_options(format, backing, backing_format)
    if options.get("backing_file") == filename:
        raise CommandFailed("Error: Trying to create an image with the same filename as the backing file")
    if options.get("backing_file") == "":
        raise CommandFailed("Expected backing file name, got empty string")
    return options


def backing_options(format: str, backing: str | None, backing_format: str | None) -> dict[str, str]:
    """Returns a backing file and its format as options of `format`, which must know such options."""
    names = {option.name for option in format_options.known(format)}
    if backing is not None and "backing_file" not in names:
        raise CommandFailed(f"Backing file not supported for file format '{format}'")
    if backing_format is not None and "backing_fmt" not in names:
        raise CommandFailed(f"Backing file format not supported for file format '{format}'")
    given = {"backing_file": backing, "backing_fmt": backing_format}
    return {name: value for name, value in given.items() if value is not None}


def local_path(filename: str) -> str:
    """Returns the host file for a new image's name; only files can be made."""
    from cowherd.image.backing import has_protocol

    if filename.startswith("file:"):
        return filename.removeprefix("file:")
    if is_address(filename):
        raise CommandFailed(f"Protocol driver '{filename.partition(':')[0]}' does not support image creation")
    if has_protocol(filename):
        raise CommandFailed(f"Unknown protocol '{filename.partition(':')[0]}'")
    return filename


def _look_at_base(filename: str, backing: str, backing_format: str | None, *, unsafe: bool) -> int | None:
    """Returns the base's virtual size, None if it must not be looked at; refuses a base without a format."""
    if unsafe:
        if backing_format is None:
            raise CommandFailed("Backing file specified without backing format")
        return None
    try:
        info = look(named(full_backing_name(filename, backing), backing_format))[0]
    except CannotOpen as error:
        raise CommandFailed(f"{error.problem}\nCould not open backing image.") from error
    if backing_format is None:
        raise CommandFailed(f"Backing file specified without backing format\nDetected format of {info.format}.")
    return info.virtual_size


def _check(format: str, filename: str, options: dict[str, str]) -> None:
    """Raises `CommandFailed` for faults that QEMU finds only after it has announced the image."""
    if not local_path(filename):
        raise CommandFailed(f"Could not create '{filename}': No such file or directory")
    format_options.check(format, options)
    for name in format_options.ignored(options):
        err(f"warning: option '{name}' has no effect here\n")
