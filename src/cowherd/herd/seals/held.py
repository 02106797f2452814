"""Content that can't change while it is read: sealing, verifying and repairing compare what is certainly one state."""

from __future__ import annotations

import contextlib
from functools import cached_property

from cowherd.herd.records.faults import ContentChanging
from cowherd.live.holders import naming_holders
from cowherd.storage.holding import Holding
from cowherd.storage.identity import FileIdentity, make_lasting
from cowherd.storage.ticks import identity_after_tick

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.records.digest import BlockDigests
    from cowherd.herd.records.digest_rows import Content
    from cowherd.progress import Progress
    from cowherd.storage.blocks import BlockFile


class Held:
    """Content as it was read, and the identity of the image's file at that time."""

    def __init__(self, content: Content | BlockDigests, identity: FileIdentity):
        self.content, self.identity = content, identity

    @cached_property
    def digests(self) -> BlockDigests:
        """The digest of each block, as arrays."""
        from cowherd.herd.records.digest import arrays_of
        from cowherd.herd.records.digest_rows import Content

        return arrays_of(self.content) if isinstance(self.content, Content) else self.content


@contextlib.contextmanager
def held_content(lineage: Lineage, image: Image, progress: Progress | None = None, held: Holding | None = None) -> Iterator[Held]:
    """Digests the content of `image` and gives it to the block; until the block ends the image's locks keep QEMU from writing.

    With `held` its files are held there, for longer than the block.
    Raises `ImageInUse` if a process has it open for writing, `ContentChanging` if it was written to while it was read, or if the
    lineage does not know the files that its content comes from: the host may have failed while the lineage was read.
    """
    from cowherd.herd.records.digest_rows import read_content
    from cowherd.herd.seals.opaque import is_opaque, open_content

    with naming_holders(), contextlib.nullcontext(held) if held is not None else Holding() as files:
        of_file = is_opaque(image, files.keep)
        with open_content(image, of_file=of_file, opener=files.keep) as reading:
            with _unwritten(lineage, image, reading.files, of_file=of_file) as identity:
                content = read_content(reading, progress, of_file=of_file)
            yield Held(content, identity)


@contextlib.contextmanager
def _unwritten(lineage: Lineage, image: Image, files: Sequence[BlockFile], *, of_file: bool = False) -> Iterator[FileIdentity]:
    """Gives the identity of an image's file to a block that reads the open `files`.

    Raises `ContentChanging` if these are not the files that the lineage knows, or if one was written to meanwhile.
    """
    chain = [image] if of_file else lineage.chain(image)
    for known in chain:
        make_lasting(known.path)  # the next write through a memory map is noticed only once its pages were written back
    if [file.key for file in files] != [known.key for known in chain]:
        raise ContentChanging(image.path)
    before = [identity_after_tick(known.path) for known in chain]
    yield before[0]
    for known, identity in zip(chain, before, strict=True):
        if FileIdentity.of(known.path) != identity:
            raise ContentChanging(known.path)
