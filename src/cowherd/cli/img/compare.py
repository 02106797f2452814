"""`cowherd-img compare`: whether two images show a guest the same content."""

from __future__ import annotations

from cowherd.cli.img.chains import look
from cowherd.cli.img.common import FORCE_SHARE, IMAGE_OPTS, OBJECT, PROGRESS, QUIET, cache_mode
from cowherd.cli.img.errors import CommandFailed, UsageError
from cowherd.cli.img.messages import explain, opening
from cowherd.cli.img.options import Arguments, Example, Option, Syntax
from cowherd.cli.img.output import out
from cowherd.cli.img.sources import SourceToRead, source_to_read
from cowherd.cli.progress import ProgressLine

SYNTAX = Syntax(
    "compare",
    "Check if two images have the same contents",
    (
        QUIET,
        PROGRESS,
        Option("a-format", "f", "FMT", "format of the first image"),
        Option("b-format", "F", "FMT", "format of the second image"),
        IMAGE_OPTS,
        Option("strict", "s", help="also fail if the sizes differ, or what is allocated"),
        Option("cache", "T", "CACHE", "cache mode of the images; accepted, and checked, for qemu-img's sake"),
        FORCE_SHARE,
        OBJECT,
    ),
    (("FILENAME1", "the first image"), ("FILENAME2", "the second image")),
    (
        Example("compare disk.raw disk.qcow2", "the same content, whatever the formats"),
        Example("compare -s -q a.qcow2 b.qcow2", "only an exit code"),
    ),
    notes="Exit codes: 0 the images are identical, 1 they differ, 2 one could not be opened, 4 one could not be "
    "read. Without --strict an image may be larger if it ends in zeros.",
)

DIFFERENT, CANNOT_OPEN, CANNOT_READ = 1, 2, 4


def run(arguments: Arguments) -> int:
    """Compares the images and prints the verdict."""
    if len(arguments.operands) != 2:
        raise UsageError("Expecting two image file names")
    quiet = arguments.flag("quiet")
    with ProgressLine(arguments.flag("progress") and not quiet, step=2.0) as progress:
        cache_mode(arguments, "cache", "source cache", CANNOT_OPEN)
        first, second = _sources(arguments)
        for image in (first, second):
            look(image, CANNOT_OPEN)
        text, code = _compare(arguments, first, second, progress)
        if code == 0:
            progress.finish()
        if not quiet:
            out(text)
    return code


def _sources(arguments: Arguments) -> tuple[SourceToRead, SourceToRead]:
    try:
        a, b = arguments.operands
        return source_to_read(arguments, a, "a-format"), source_to_read(arguments, b, "b-format")
    except CommandFailed as error:
        raise CommandFailed(error.message, CANNOT_OPEN) from error


def _compare(arguments: Arguments, first: SourceToRead, second: SourceToRead, progress: ProgressLine) -> tuple[str, int]:
    """Returns the verdict's text and the exit code."""
    from cowherd.ops.compare.compare import compare
    from cowherd.ops.compare.comparison import ReadFailed

    strict = arguments.flag("strict")
    try:
        with opening(first.text, first.path, CANNOT_OPEN), opening(second.text, second.path, CANNOT_OPEN):
            found = compare(
                first.path,
                second.path,
                format_a=first.format,
                format_b=second.format,
                strict=strict,
                force_share=arguments.flag("force-share"),
                progress=progress.callback,
            )
    except ReadFailed as error:
        raise CommandFailed(explain(error), CANNOT_READ) from error
    if found.reason == "size":
        return "Strict mode: Image size mismatch!\n", DIFFERENT
    if found.reason == "status":
        return f"Strict mode: Offset {found.offset} block status mismatch!\n", DIFFERENT
    warning = "Warning: Image size mismatch!\n" if found.passed_smaller_end else ""
    if found.identical:
        return f"{warning}Images are identical.\n", 0
    return f"{warning}Content mismatch at offset {found.offset}!\n", DIFFERENT
