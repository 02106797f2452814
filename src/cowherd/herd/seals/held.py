"""Content that is read and can't change meanwhile: sealing, verifying and repairing compare what is certainly one state."""

from __future__ import annotations

import contextlib

from cowherd.herd.records.faults import ContentChanging
from cowherd.live.holders import naming_holders
from cowherd.storage.identity import FileIdentity, make_lasting
from cowherd.storage.ticks import identity_after_tick
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.records.digest import BlockDigests
    from cowherd.image.link import Link
    from cowherd.progress import Progress


class Held(NamedTuple):
    """Content as it was read, and the identity of the image's file at that time."""

    digests: BlockDigests
    identity: FileIdentity


@contextlib.contextmanager
def held_content(lineage: Lineage, image: Image, progress: Progress | None = None) -> Iterator[Held]:
    """Digests the content of `image` and gives it to the block, during which the image's locks keep QEMU from writing.

    Raises `ImageInUse` if a process has it open for writing, `ContentChanging` if it was written to while it was read, or if the
    lineage does not know the files that its content comes from: the host may have failed when it was looked at.
    """
    from dataclasses import replace

    from cowherd.herd.records.digest import digest_disk
    from cowherd.herd.seals.opaque import is_opaque, open_content

    of_file = is_opaque(image)
    with naming_holders(), open_content(image, of_file=of_file) as disk:
        with _unwritten(lineage, image, disk.layers, of_file=of_file) as identity:
            digests = replace(digest_disk(disk, progress), of_file=of_file)
        yield Held(digests, identity)


def confirms(lineage: Lineage, image: Image, content: bytes, progress: Progress | None = None) -> bool:
    """Returns whether the content digest of `image` is `content`, if that can be told without arrays.

    False if it is another one, or the image is not simple enough: then `held_content` tells. Raises as that.
    """
    from cowherd.formats.outline import NeedsArrays
    from cowherd.herd.records.digest_by_tables import outlined_digest
    from cowherd.herd.seals.opaque import is_opaque
    from cowherd.image.outline import open_outline

    if is_opaque(image):
        return False
    try:
        with (
            naming_holders(),
            open_outline(image.path, format=image.format) as outline,
            _unwritten(lineage, image, outline.layers),
        ):
            return outlined_digest(outline, progress) == content
    except NeedsArrays:
        return False


@contextlib.contextmanager
def _unwritten(lineage: Lineage, image: Image, layers: Sequence[Link], *, of_file: bool = False) -> Iterator[FileIdentity]:
    """Gives the identity of an image's file to a block that reads its open `layers`.

    Raises `ContentChanging` if these are not the files that the lineage knows, or if one was written to meanwhile.
    """
    chain = [image] if of_file else lineage.chain(image)
    for file in chain:
        make_lasting(file.path)  # a memory map that wrote to it has its next write noticed only when its pages were written back
    if [layer.file.key for layer in layers] != [file.key for file in chain]:
        raise ContentChanging(image.path)
    before = [identity_after_tick(file.path) for file in chain]
    yield before[0]
    for file, identity in zip(chain, before, strict=True):
        if FileIdentity.of(file.path) != identity:
            raise ContentChanging(file.path)
