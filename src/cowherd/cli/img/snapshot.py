"""`cowherd-img snapshot`: lists internal snapshots. Making, applying and deleting them is refused."""

from __future__ import annotations

from cowherd.cli.img.chains import look
from cowherd.cli.img.common import FILENAME, QUIET, one_filename
from cowherd.cli.img.errors import CommandFailed, UsageError
from cowherd.cli.img.options import Arguments, Example, Option, Syntax
from cowherd.cli.img.output import out
from cowherd.cli.img.snapshot_table import snapshot_table
from cowherd.cli.img.sources import SOURCE_OPTIONS, source_to_read
from cowherd.ops.info import image_info

_CHANGES = ("apply", "create", "delete")

SYNTAX = Syntax(
    "snapshot",
    "List snapshots within image",
    (
        QUIET,
        *SOURCE_OPTIONS,
        Option("list", "l", help="list the snapshots (the default)"),
        Option("apply", "a", "SNAPSHOT", "refused: cowherd-img does not change internal snapshots"),
        Option("create", "c", "SNAPSHOT", "refused likewise; 'create -b' makes an overlay instead"),
        Option("delete", "d", "SNAPSHOT", "refused likewise"),
    ),
    (FILENAME,),
    (Example("snapshot -l disk.qcow2", "the internal snapshots of an image"),),
)


def run(arguments: Arguments) -> int:
    """Prints the list, or refuses a change."""
    wanted = [key for key in ("list", *_CHANGES) for _ in arguments.texts(key)]
    if len(wanted) > 1:
        raise UsageError("Cannot mix '-l', '-a', '-c', '-d'")
    image = source_to_read(arguments, one_filename(arguments))
    if wanted and wanted[0] in _CHANGES:
        raise CommandFailed(
            f"cowherd-img can list internal snapshots, but not {wanted[0]} them; use qemu-img, and mind that no overlay "
            "may depend on the image: an applied snapshot changes what its dependents read"
        )
    look(image)
    info = image_info(image.path, format=image.format, force_share=arguments.flag("force-share"))
    # qemu-img lists only if asked to, although its help calls that the default.
    if wanted and info.snapshots:
        out("\n".join(["Snapshot list:", *snapshot_table(info.snapshots)]) + "\n")
    return 0
