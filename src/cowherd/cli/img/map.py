"""`cowherd-img map`: which file of the chain holds each part of the disk, and where."""

from __future__ import annotations

from cowherd.cli.img.chains import look
from cowherd.cli.img.common import FILENAME, OUTPUT, number_between, one_filename, wants_json
from cowherd.cli.img.errors import CommandFailed
from cowherd.cli.img.messages import opening
from cowherd.cli.img.options import Arguments, Example, Option, Syntax
from cowherd.cli.img.output import out
from cowherd.cli.img.sources import SOURCE_OPTIONS, source_to_read
from cowherd.kinds import NOWHERE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cowherd.ops.map import Run

SYNTAX = Syntax(
    "map",
    "Dump image metadata",
    (
        *SOURCE_OPTIONS,
        Option("start-offset", "s", "OFFSET", "begin at this guest byte", number_between("start offset")),
        Option("max-length", "l", "LENGTH", "tell about this many bytes at most", number_between("max length")),
        OUTPUT,
    ),
    (FILENAME,),
    (
        Example("map disk.qcow2", "the parts that hold data, with their place in the file"),
        Example("map --output=json overlay.qcow2", "every part; depth says which image of the chain holds it"),
    ),
)

_LINES_AT_ONCE = 1000


def run(arguments: Arguments) -> int:
    """Prints the map."""
    image = source_to_read(arguments, one_filename(arguments))
    infos = look(image)
    from cowherd.image.reading import open_reading
    from cowherd.ops.map import runs

    with opening(image.text, image.path):
        reading = open_reading(image.path, format=image.format, force_share=arguments.flag("force-share"))
    with reading:
        start, most = arguments.number("start-offset") or 0, arguments.number("max-length")
        end = reading.size if most is None else min(start + most, reading.size)
        found = runs(reading, start, end - start) if start < end else iter(())
        if wants_json(arguments):
            _print_json(found, start)
        else:
            _print_human(found, [info.filename for info in infos])
    return 0


def _print_human(found: Iterable[Run], filenames: Sequence[str]) -> None:
    from cowherd.ops.map import FLAGS

    out(f"{'Offset':<16}{'Length':<16}{'Mapped to':<16}File\n")
    lines: list[str] = []
    for start, length, depth, status, offset in found:
        _, zero, data, _ = FLAGS[status]
        if data and not zero:
            if offset == NOWHERE:
                out("".join(lines))
                raise CommandFailed("File contains external, encrypted or compressed clusters.")
            lines.append(f"{_hexadecimal(start)}{_hexadecimal(length)}{_hexadecimal(offset)}{filenames[depth]}\n")
        if len(lines) >= _LINES_AT_ONCE:
            out("".join(lines))
            lines.clear()
    out("".join(lines))


def _hexadecimal(value: int) -> str:
    return f"{value and hex(value):<16}"


def _print_json(found: Iterable[Run], start: int) -> None:
    from cowherd.ops.map import FLAGS

    objects: list[str] = []
    opening_text, separator = "[", ",\n"
    named = [_flags(*flags) for flags in FLAGS]
    for begin, length, depth, status, offset in found:
        place = "" if offset == NOWHERE else f', "offset": {offset}'
        objects.append(f'{{ "start": {begin}, "length": {length}, "depth": {depth}, {named[status]}{place}}}')
        if len(objects) >= _LINES_AT_ONCE:
            out(opening_text + separator.join(objects))
            opening_text = separator
            objects.clear()
    if opening_text == "[" and not objects:
        objects.append(_nothing(start))
    out((opening_text if objects else "") + separator.join(objects) + "]\n")


def _flags(present: bool, zero: bool, data: bool, compressed: bool) -> str:
    named = {"present": present, "zero": zero, "data": data, "compressed": compressed}
    return ", ".join(f'"{name}": {_boolean(value)}' for name, value in named.items())


def _nothing(start: int) -> str:
    """Returns what qemu-img prints for an empty range."""
    words = '"depth": 0, "present": false, "zero": false, "data": false, "compressed": false'
    return f'{{ "start": {start}, "length": 0, {words}}}'


def _boolean(value: bool) -> str:
    return "true" if value else "false"
