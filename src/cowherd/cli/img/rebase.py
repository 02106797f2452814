"""`cowherd-img rebase`: puts an overlay on another base."""

from __future__ import annotations

from cowherd.cli.img.chains import look, look_before_writing, warn_about_guess
from cowherd.cli.img.common import (
    BREAK_DEPENDENTS,
    CACHE,
    FILENAME,
    FORMAT,
    IMAGE_OPTS,
    OBJECT,
    PROGRESS,
    QUIET,
    cache_mode,
    one_filename,
)
from cowherd.cli.img.errors import CannotOpen, CommandFailed, UsageError
from cowherd.cli.img.messages import opening
from cowherd.cli.img.options import Arguments, Example, Option, Syntax
from cowherd.cli.img.sources import Source, is_driver, named, source
from cowherd.cli.progress import ProgressLine
from cowherd.formats import registry
from cowherd.ops.info import ImageInfo, full_backing_name, image_info

SYNTAX = Syntax(
    "rebase",
    "Change backing file of the image",
    (
        QUIET,
        PROGRESS,
        FORMAT,
        IMAGE_OPTS,
        CACHE,
        Option("backing", "b", "BACKING_FILE", 'the new base; "" for none, so that the image stands alone'),
        Option("backing-format", "F", "BACKING_FMT", "format of the new base"),
        Option("backing-cache", "T", "CACHE", "cache mode of the bases; accepted, and checked, for qemu-img's sake"),
        Option("backing-unsafe", "u", help="only write the new name: the new base must have the old one's content"),
        Option("compress", "c", help="compress what is copied into the image"),
        Option("force-share", "U", help="read the bases although other processes may be writing to them"),
        OBJECT,
        BREAK_DEPENDENTS,
    ),
    (FILENAME,),
    (
        Example("rebase -b new.qcow2 -F qcow2 overlay.qcow2", "the overlay keeps its content, and gets what the new base lacks"),
        Example('rebase -b "" overlay.qcow2', "everything is copied into the overlay, which then stands alone"),
        Example("rebase -u -b ../base.qcow2 -F qcow2 overlay.qcow2", "the base was moved: only the name changes"),
    ),
    notes="Refused with exit code 3 where an internal snapshot of the image shows bytes that the new base does not have: nothing "
    "can be copied into a snapshot. --break-dependents gives up what these show. "
    "With -u nothing is compared: an overlay put on a base of other content is torn, and so are its snapshots.",
)


def run(arguments: Arguments) -> int:
    """Rebases."""
    filename = one_filename(arguments)
    backing, unsafe = arguments.text("backing"), arguments.flag("backing-unsafe")
    if not unsafe and backing is None:
        raise UsageError("Must specify backing file (-b) or use unsafe mode (-u)")
    with ProgressLine(arguments.flag("progress") and not arguments.flag("quiet"), step=2.0) as progress:
        cache_mode(arguments, "cache", "cache")
        cache_mode(arguments, "backing-cache", "source cache")
        image = source(arguments, filename)
        info = _look_at_overlay(image, unsafe=unsafe)
        _check(arguments, image, info)
        _rebase(arguments, image, progress)
        progress.finish()
    return 0


def _look_at_overlay(image: Source, *, unsafe: bool) -> ImageInfo:
    """Returns the overlay's facts; its old base need not exist if it will not be read."""
    if not unsafe:
        return look_before_writing(image)[0]
    with opening(image.text, image.path):
        info = image_info(image.path, format=image.format, force_share=True)
    warn_about_guess(image, info)
    return info


def _check(arguments: Arguments, image: Source, info: ImageInfo) -> None:
    backing, backing_format = arguments.text("backing"), arguments.text("backing-format")
    can = registry.named(info.format)
    if arguments.flag("compress") and not can.compressed:
        raise CommandFailed("Compression not supported for this file format")
    if backing_format is not None and not is_driver(backing_format):
        raise CommandFailed(f"Invalid format name: '{backing_format}'")
    if not can.backing:
        raise CommandFailed(f"Could not change the backing file to '{backing}': Operation not supported")
    if backing and not arguments.flag("backing-unsafe"):
        try:
            look(named(full_backing_name(image.path, backing), backing_format))
        except CannotOpen as error:
            raise CommandFailed(f"Could not open new backing file '{backing}': {error.problem}") from error
    if backing and backing_format is None:
        raise CommandFailed(f"Could not change the backing file to '{backing}': backing format must be specified")


def _rebase(arguments: Arguments, image: Source, progress: ProgressLine) -> None:
    from cowherd.changes import rebase

    with opening(image.text, image.path):
        rebase(
            image.path,
            arguments.text("backing") or None,
            format=image.format,
            backing_format=arguments.text("backing-format"),
            unsafe=arguments.flag("backing-unsafe"),
            compress=arguments.flag("compress"),
            force_share=arguments.flag("force-share"),
            progress=progress.callback,
            break_dependents=arguments.flag("break-dependents"),
        )
