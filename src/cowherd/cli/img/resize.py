"""`cowherd-img resize`: changes a disk's virtual size."""

from __future__ import annotations

from cowherd.cli.img.chains import look_before_writing
from cowherd.cli.img.common import BREAK_DEPENDENTS, FORMAT, IMAGE_OPTS, OBJECT, QUIET
from cowherd.cli.img.errors import CommandFailed, UsageError
from cowherd.cli.img.format_options import size_value
from cowherd.cli.img.messages import opening
from cowherd.cli.img.options import Arguments, Example, Option, Syntax
from cowherd.cli.img.output import out
from cowherd.cli.img.sources import source


def _preallocation(text: str) -> str:
    if text not in ("off", "metadata", "falloc", "full"):
        raise CommandFailed(f"Invalid preallocation mode '{text}'")
    return text


SYNTAX = Syntax(
    "resize",
    "Resize the image to the new size",
    (
        QUIET,
        FORMAT,
        IMAGE_OPTS,
        OBJECT,
        Option("preallocation", "", "PREALLOC", "how to allocate what is gained: off, metadata, falloc, full", _preallocation),
        Option("shrink", help="let the new size be smaller: what lies behind it is lost"),
        BREAK_DEPENDENTS,
    ),
    (
        ("FILENAME", "the image file (or its description, with --image-opts)"),
        ("[+|-]SIZE", "the new virtual size, or by how much to change it, with an optional suffix k, M, G, T, P or E"),
    ),
    (
        Example("resize disk.qcow2 +10G", "ten GiB more, which read as zeros"),
        Example("resize --shrink -f raw disk.raw 5G", "a smaller disk; shrink the file systems in it first"),
    ),
    numbers_are_operands=True,
)
_SHRINKING = (
    "warning: Shrinking an image will delete all data beyond the shrunken image's end. Before performing such an operation, "
    "make sure there is no important data there."
)


def run(arguments: Arguments) -> int:
    """Resizes the image."""
    if len(arguments.operands) > 2:
        raise UsageError("Extra argument(s) in command line")
    if len(arguments.operands) < 2:
        raise UsageError("Expecting image file name and size")
    filename, wanted = arguments.operands
    sign = {"+": 1, "-": -1}.get(wanted[:1], 0)
    amount = _signed(size_value("size", wanted[1:] if sign else wanted))
    image = source(arguments, filename)
    current = look_before_writing(image)[0].virtual_size
    size = _signed(current + sign * amount if sign else amount)
    preallocation, shrink = arguments.text("preallocation") or "off", arguments.flag("shrink")
    _check(size, current, preallocation, shrink=shrink)
    from cowherd.changes import resize

    with opening(image.text, image.path):
        resize(
            image.path,
            size,
            format=image.format,
            shrink=shrink,
            preallocation=preallocation,
            break_dependents=arguments.flag("break-dependents"),
        )
    if not arguments.flag("quiet"):
        out("Image resized.\n")
    return 0


def _signed(size: int) -> int:
    """Returns `size` as a signed number of 64 bits, as qemu-img computes with it."""
    return (size + 2**63) % 2**64 - 2**63


def _check(size: int, current: int, preallocation: str, *, shrink: bool) -> None:
    if size <= 0:
        raise CommandFailed("New image size must be positive")
    if size <= current and preallocation != "off":
        raise CommandFailed("Preallocation can only be used for growing images")
    if size < current and not shrink:
        raise CommandFailed("Use the --shrink option to perform a shrink operation.", further=_SHRINKING)
