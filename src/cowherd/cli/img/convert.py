"""`cowherd-img convert`: copies an image, or several one behind another, into a new image or over an old one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from cowherd.cli.img import format_options
from cowherd.cli.img.chains import look
from cowherd.cli.img.common import (
    BREAK_DEPENDENTS,
    FORCE_SHARE,
    IMAGE_OPTS,
    OBJECT,
    PROGRESS,
    QUIET,
    RATE,
    cache_mode,
    no_snapshot,
    number_between,
    option_list,
)
from cowherd.cli.img.create import backing_options, local_path
from cowherd.cli.img.errors import CannotOpen, CommandFailed
from cowherd.cli.img.messages import opening, prefixed
from cowherd.cli.img.options import Arguments, Example, Option, Syntax
from cowherd.cli.img.output import out
from cowherd.cli.img.sources import Source, SourceToRead, named, source, source_to_read
from cowherd.cli.progress import ProgressLine
from cowherd.formats import registry
from cowherd.ops.info import ImageInfo, full_backing_name
from cowherd.sizes import INT64_MAX, SECTOR

_LARGEST_SPARSE = 16 << 20


def _sparse_size(text: str) -> int:
    size = number_between("buffer size for sparse output", 0, INT64_MAX)(text)
    if size % SECTOR or size > _LARGEST_SPARSE:
        raise CommandFailed(
            f"Invalid buffer size for sparse output specified. Valid sizes are multiples of {SECTOR} up to {_LARGEST_SPARSE}. "
            "Select 0 to disable sparse detection (fully allocates output)."
        )
    return size


_COROUTINES = number_between("number of coroutines", 1, 16)

SYNTAX = Syntax(
    "convert",
    "Copy one image to another with optional format conversion",
    (
        QUIET,
        PROGRESS,
        Option("source-format", "f", "FMT", "format of the source images, raw or qcow2; without it their first bytes decide"),
        IMAGE_OPTS,
        Option("source-image-opts", help="another name of --image-opts"),
        Option("source-snapshot", "l", "SNAPSHOT", "refused: cowherd-img does not read internal snapshots"),
        Option("source-cache", "T", "CACHE", "cache mode of the sources; accepted, and checked, for qemu-img's sake"),
        Option("target-format", "O", "FMT", "format of the target, raw (the default) or qcow2"),
        Option("target-image-opts", help="TARGET is driver=FMT,file.filename=NAME instead of a name (needs -n)"),
        Option("target-options", "o", "FMT_OPTS", "options of the target's format ('-o help' lists them)", option_list),
        Option("compress", "c", help="compress the target (qcow2 only)"),
        Option("target-cache", "t", "CACHE", "cache mode of the target; accepted, and checked, for qemu-img's sake"),
        Option("backing", "B", "BACKING_FILE", "make the target an overlay of this base: only what differs is written"),
        Option("backing-format", "F", "BACKING_FMT", "format of that base"),
        Option("no-create", "n", help="write into an existing image"),
        Option("target-is-zero", help="the existing image reads as zeros (with -n)"),
        Option(
            "sparse-size", "S", "SIZE", "zeros of this length become holes (default 4k; 0: allocate everything)", _sparse_size
        ),
        Option("bitmaps", help="copy persistent bitmaps; refused for images that have any"),
        Option("skip-broken-bitmaps", help="with --bitmaps, leave out those that are not to be trusted"),
        FORCE_SHARE,
        RATE,
        Option("parallel", "m", "NUM", "how many requests at once; accepted for qemu-img's sake", _COROUTINES),
        Option("copy-range-offloading", "C", help="accepted for qemu-img's sake: the best means to copy is always used"),
        Option("salvage", help="refused: what can't be read ends the conversion"),
        Option("oob-writes", "W", help="accepted for qemu-img's sake: writes need no order"),
        OBJECT,
        BREAK_DEPENDENTS,
    ),
    (("SOURCE [SOURCE2 ...]", "the images to copy"), ("TARGET", "the image to make, or with -n to overwrite")),
    (
        Example("convert -O qcow2 -c disk.raw disk.qcow2", "a compressed qcow2 image"),
        Example("convert -p -O raw overlay.qcow2 disk.raw", "everything that the overlay's guest sees, as a raw image"),
        Example("convert -O qcow2 -B base.qcow2 -F qcow2 disk.raw overlay.qcow2", "an overlay that holds only what differs"),
    ),
)


def run(arguments: Arguments) -> int:
    """Converts."""
    _check_combinations(arguments)
    operands = arguments.operands
    lists = arguments.texts("target-options")
    if format_options.help_wanted(lists):
        format = arguments.text("target-format") or registry.NEW_TARGET
        format_options.creatable(format)
        out(format_options.help_text(format, operands[-1] if len(operands) > 1 else None))
        return 0
    if len(operands) < 2:
        raise CommandFailed("Must specify image file name")
    cache_mode(arguments, "source-cache", "source cache")
    with ProgressLine(arguments.flag("progress") and not arguments.flag("quiet")) as progress:
        _convert(arguments, operands[:-1], operands[-1], progress)
        progress.finish()
    return 0


def _check_combinations(arguments: Arguments) -> None:
    given = arguments.flag
    rules = (
        (given("skip-broken-bitmaps") and not given("bitmaps"), "Use of --skip-broken-bitmaps requires --bitmaps"),
        (given("compress") and given("copy-range-offloading"), "Cannot enable copy offloading when -c is used"),
        (given("sparse-size") and given("copy-range-offloading"), "Cannot enable copy offloading when -S is used"),
        (given("salvage") and given("copy-range-offloading"), "Cannot use copy offloading in salvaging mode"),
        (given("target-image-opts") and not given("no-create"), "--target-image-opts requires use of -n flag"),
        (given("no-create") and given("target-options"), "-o has no effect when skipping image creation"),
        (given("target-is-zero") and not given("no-create"), "--target-is-zero requires use of -n flag"),
        (given("salvage"), "--salvage is not supported: what can't be read ends the conversion; use qemu-img"),
    )
    for broken, message in rules:
        if broken:
            raise CommandFailed(message)


def _convert(arguments: Arguments, names: Sequence[str], target_name: str, progress: ProgressLine) -> None:
    image_opts = arguments.flag("image-opts") or arguments.flag("source-image-opts")
    sources = [source_to_read(arguments, name, "source-format", image_opts=image_opts) for name in names]
    infos = [look(image)[0] for image in sources]
    no_snapshot(infos[0].snapshots, arguments.text("source-snapshot"))
    create = not arguments.flag("no-create")
    target = _existing_target(arguments, target_name) if not create else Source(target_name, local_path(target_name), None)
    format = target.format or arguments.text("target-format") or registry.NEW_TARGET
    options = _target_options(arguments, format, len(sources)) if create else {}
    _check_target(arguments, format, options, infos)
    cache_mode(arguments, "target-cache", "cache")
    if create:
        _announce_problems(format, target_name, options)
    _execute(arguments, sources, target, format, options, progress)


def _existing_target(arguments: Arguments, name: str) -> Source:
    """Returns the image that -n writes into, which must exist."""
    if arguments.flag("target-image-opts"):
        target = source(arguments, name, "target-format", image_opts=True)
    else:
        target = named(name, arguments.text("target-format") or registry.NEW_TARGET)
    look(target)
    return target


def _target_options(arguments: Arguments, format: str, source_count: int) -> dict[str, str]:
    """Returns the new image's options from -o, -B and -F."""
    format_options.creatable(format)
    options = format_options.parse(arguments.texts("target-options"), format)
    options |= backing_options(format, arguments.text("backing"), arguments.text("backing-format"))
    if "backing_file" in options and source_count > 1:
        raise CommandFailed("Having a backing file for the target makes no sense when concatenating multiple input images")
    if "backing_file" in options and "backing_fmt" not in options:
        raise CommandFailed("Use of backing file requires explicit backing format")
    return options


def _check_target(arguments: Arguments, format: str, options: dict[str, str], infos: Sequence[ImageInfo]) -> None:
    if arguments.flag("target-is-zero") and arguments.flag("backing"):
        # qemu-img says the same, does nothing, and reports success, on which nobody should rely.
        raise CommandFailed("Cannot use --target-is-zero when the destination image has a backing file")
    if arguments.flag("compress"):
        if not registry.named(format).compressed:
            raise CommandFailed("Compression not supported for this file format")
        if options.get("preallocation", "off") != "off":
            raise CommandFailed("Compression and preallocation not supported at the same time")
    if arguments.flag("bitmaps"):
        if len(infos) > 1:
            raise CommandFailed("Copying bitmaps only possible with single source")
        if not registry.named(format).bitmaps:
            raise CommandFailed(f"Format driver '{format}' does not support bitmaps")
        if infos[0].qcow2 is not None and infos[0].qcow2.bitmaps:
            raise CommandFailed("Copying bitmaps is not supported; use qemu-img, or leave out --bitmaps")


def _announce_problems(format: str, target_name: str, options: dict[str, str]) -> None:
    """Raises `CommandFailed` for options with which the target can't be made, before anything is written."""
    with prefixed(f"{target_name}: error while converting {format}: "):
        format_options.check(format, options)
        registry.named(format).check_options(format_options.for_the_format(options))
    backing = options.get("backing_file")
    if backing:
        try:
            look(named(full_backing_name(target_name, backing), options["backing_fmt"]))
        except CannotOpen as error:
            raise CannotOpen(target_name, f"Could not open backing file: {error.problem}") from error


def _execute(
    arguments: Arguments,
    sources: Sequence[SourceToRead],
    target: Source,
    format: str,
    options: dict[str, str],
    progress: ProgressLine,
) -> None:
    from cowherd.changes import convert

    create = not arguments.flag("no-create")
    sparse_size = arguments.number("sparse-size")
    with contextlib.ExitStack() as naming:
        for image in sources:
            naming.enter_context(opening(image.text, image.path))
        naming.enter_context(_making(target, format) if create else opening(target.text, target.path))
        convert(
            [image.path for image in sources],
            target.path,
            source_format=sources[0].format,
            target_format=format,
            options=format_options.for_the_format(options),
            backing=options.get("backing_file"),
            backing_format=options.get("backing_fmt"),
            compress=arguments.flag("compress"),
            sparse_size=4096 if sparse_size is None else sparse_size,
            create_target=create,
            target_is_zero=arguments.flag("target-is-zero"),
            force_share=arguments.flag("force-share"),
            progress=progress.callback,
            break_dependents=arguments.flag("break-dependents"),
        )


@contextlib.contextmanager
def _making(target: Source, format: str) -> Iterator[None]:
    """Turns errors about the target's file into qemu-img's message that making it failed."""
    try:
        with opening(target.text, target.path):
            yield
    except CannotOpen as error:
        raise CommandFailed(f"{target.text}: error while converting {format}: {error.problem}") from error
