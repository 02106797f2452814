"""Looks at the images that a command is going to open, to report those that can't be opened in qemu-img's words."""

from __future__ import annotations

from cowherd.cli.img.errors import CannotOpen
from cowherd.cli.img.messages import reason
from cowherd.cli.img.output import err
from cowherd.errors import CowherdError
from cowherd.formats import registry
from cowherd.ops.info import ImageInfo, iter_chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.cli.img.sources import Source, SourceToRead

_PROBED_RAW = (
    "WARNING: Image format was not specified for '{}' and probing guessed raw.\n"
    "         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n"
    "         Specify the 'raw' format explicitly to remove the restrictions.\n"
)


def look(image: Source | SourceToRead, exit_code: int = 1) -> list[ImageInfo]:
    """Returns the facts of the image and of every image under it, the top one first. Takes no locks: the operation will.

    Raises `CannotOpen` for the chain's first image that can't be opened.
    """
    found: list[ImageInfo] = []
    try:
        for info in iter_chain(image.path, format=image.format, force_share=True):
            found.append(info)
    except CowherdError as error:
        name = found[-1].backing_filename if found else str(image.path)
        problem = "Could not open backing file: " * len(found) + reason(error, name)
        raise CannotOpen(image.text, problem, exit_code) from error
    return found


def look_before_writing(image: Source) -> list[ImageInfo]:
    """As `look`, with qemu-img's warning about a raw image whose format nobody named."""
    found = look(image)
    warn_about_guess(image, found[0])
    return found


def warn_about_guess(image: Source, info: ImageInfo) -> None:
    """Warns as qemu-img does if an image to be written is taken for raw only because its first bytes show no other format."""
    if image.format is None and registry.named(info.format).verbatim:
        err(_PROBED_RAW.format(image.path))
