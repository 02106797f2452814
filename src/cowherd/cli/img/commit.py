"""`cowherd-img commit`: writes an overlay's content into its base."""

from __future__ import annotations

import os
from itertools import pairwise

from cowherd.cli.img.chains import look_before_writing
from cowherd.cli.img.common import (
    BREAK_DEPENDENTS,
    CACHE,
    FILENAME,
    FORMAT,
    IMAGE_OPTS,
    OBJECT,
    PROGRESS,
    QUIET,
    RATE,
    cache_mode,
    one_filename,
)
from cowherd.cli.img.errors import CommandFailed
from cowherd.cli.img.messages import opening
from cowherd.cli.img.options import Arguments, Example, Option, Syntax
from cowherd.cli.img.output import out
from cowherd.cli.img.sources import Source, source
from cowherd.cli.progress import ProgressLine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.ops.info import ImageInfo

SYNTAX = Syntax(
    "commit",
    "Commit image to its backing file",
    (
        QUIET,
        PROGRESS,
        FORMAT,
        IMAGE_OPTS,
        CACHE,
        Option("drop", "d", help="leave the overlay as it is instead of emptying it, for it is going to be deleted"),
        Option("base", "b", "BASE", "an image further down the chain to commit into (implies --drop)"),
        RATE,
        OBJECT,
        BREAK_DEPENDENTS,
    ),
    (FILENAME,),
    (
        Example("commit overlay.qcow2", "write everything into the base, and empty the overlay"),
        Example("commit -d -p overlay.qcow2", "the same for an overlay that is then deleted"),
    ),
    notes="Refused with exit code 3 while other overlays depend on the base, or internal snapshots of the image read what would "
    "be overwritten there: they would read the committed content. --break-dependents commits all the same.",
)


def run(arguments: Arguments) -> int:
    """Commits."""
    quiet = arguments.flag("quiet")
    filename = one_filename(arguments)
    cache_mode(arguments, "cache", "cache")
    image = source(arguments, filename)
    chain = look_before_writing(image)
    with ProgressLine(arguments.flag("progress") and not quiet) as progress:
        base = _base(image, chain, arguments.text("base"))
        from cowherd.changes import commit

        with opening(image.text, image.path):
            commit(
                image.path,
                format=image.format,
                base=base,
                keep_content=arguments.flag("drop") or arguments.flag("base"),
                progress=progress.callback,
                break_dependents=arguments.flag("break-dependents"),
            )
        progress.finish()
    if not quiet:
        out("Image committed.\n")
    return 0


def _base(image: Source, chain: list[ImageInfo], wanted: str | None) -> str | None:
    """Returns the file to commit into, None for the backing file; it must lie under the image."""
    if wanted is None:
        if len(chain) < 2:
            raise CommandFailed("Image does not have a backing file")
        return None
    for info in chain[1:]:
        if wanted == info.filename or os.path.realpath(wanted) == os.path.realpath(info.filename):
            return info.filename
    named = [below.filename for above, below in pairwise(chain) if above.backing_name == wanted]
    if not named:
        raise CommandFailed(f"Did not find '{wanted}' in the backing chain of '{image.text}'")
    return named[0]
