"""`cowherd-img measure`: the size that a new image file would have."""

from __future__ import annotations

from cowherd.cli.img import format_options
from cowherd.cli.img.chains import look
from cowherd.cli.img.common import OPTIONS, OUTPUT, no_snapshot, number_between, wants_json
from cowherd.cli.img.errors import CommandFailed
from cowherd.cli.img.jsonout import dumps
from cowherd.cli.img.messages import opening
from cowherd.cli.img.options import Arguments, Example, Option, Syntax
from cowherd.cli.img.output import out
from cowherd.cli.img.sources import SOURCE_OPTIONS, SourceToRead, source_to_read
from cowherd.formats import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.ops.measure import Measurement

SYNTAX = Syntax(
    "measure",
    "Calculate file size required for a new image",
    (
        Option("target-format", "O", "FMT", "format of the new image, raw (the default) or qcow2"),
        OPTIONS,
        Option("size", "s", "SIZE", "measure for an empty image of this virtual size", number_between("image size")),
        *SOURCE_OPTIONS,
        Option("snapshot", "l", "SNAPSHOT", "refused: cowherd-img does not read internal snapshots"),
        OUTPUT,
    ),
    (("[FILENAME]", "measure for a conversion of this image"),),
    (
        Example("measure -O qcow2 disk.raw", "what converting disk.raw to qcow2 will need"),
        Example("measure -O qcow2 --size 100G", "what a new image of 100 GiB needs, empty and full"),
    ),
)


def run(arguments: Arguments) -> int:
    """Prints the measurement."""
    filename, size = _subject(arguments)
    image = None if filename is None else source_to_read(arguments, filename)
    if image is not None:
        no_snapshot(look(image)[0].snapshots, arguments.text("snapshot"))
    result = _measure(arguments, image, size)
    if wants_json(arguments):
        out(dumps(result.to_json()) + "\n")
        return 0
    out(f"required size: {result.required}\nfully allocated size: {result.fully_allocated}\n")
    if result.bitmaps is not None:
        out(f"bitmaps size: {result.bitmaps}\n")
    return 0


def _subject(arguments: Arguments) -> tuple[str | None, int | None]:
    """Returns the file name or the size to measure for; exactly one of them must be given."""
    operands, size = arguments.operands, arguments.number("size")
    if len(operands) > 1:
        raise CommandFailed("At most one filename argument is allowed.")
    if not operands and (arguments.flag("image-opts") or arguments.flag("format") or arguments.flag("snapshot")):
        raise CommandFailed("--image-opts, -f, and -l require a filename argument.")
    if operands and size is not None:
        raise CommandFailed("--size N cannot be used together with a filename.")
    if not operands and size is None:
        raise CommandFailed("Either --size N or one filename must be specified.")
    return (operands[0] if operands else None), size


def _measure(arguments: Arguments, image: SourceToRead | None, size: int | None) -> Measurement:
    format = arguments.text("target-format") or registry.NEW_TARGET
    format_options.creatable(format)
    try:
        options = format_options.parse(arguments.texts("options"), format)
    except CommandFailed as error:
        raise CommandFailed(error.message, further=f"Invalid options for file format '{format}'") from error
    format_options.check(format, options)
    from cowherd.ops.measure import measure

    chosen = format_options.for_the_format(options)
    if image is None:
        return measure(size=size, target_format=format, options=chosen)
    with opening(image.text, image.path):
        return measure(
            image.path,
            source_format=image.format,
            target_format=format,
            options=chosen,
            backing="backing_file" in options,
            force_share=arguments.flag("force-share"),
        )
