"""Random sequences of requests and jobs on a few images, beside a plain in-memory model, with QEMU's verdict at the end.

A run tries 30 sequences of up to 40 steps. To search for longer, say how many:

    COWHERD_EXAMPLES=5000 pytest tests/stateful
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from cowherd.ops.commit import commit
from cowherd.ops.convert.convert import convert
from cowherd.ops.create import create
from cowherd.ops.rebase.rebase import rebase
from tests import qemu
from tests.images import KIB, Features, examples, patterned

STEPS = 40
SECTOR = 512
MOST_IMAGES = 6
RAW = None

FEATURES = st.sampled_from(
    (
        RAW,
        Features(512),
        Features(512, refcount_bits=1),
        Features(512, refcount_bits=64),
        Features(1 * KIB, version=2),
        Features(4 * KIB, compression="zstd"),
        Features(64 * KIB),
        Features(64 * KIB, version=2),
        Features(16 * KIB, extended_l2=True),
        Features(32 * KIB, extended_l2=True, compression="zstd", refcount_bits=8),
    )
)
SIZES = st.integers(0, 400).map(lambda sectors: sectors * SECTOR)
ANY = st.integers(0, 1 << 30)
"""Names an image, a place or a length once it is taken modulo how many there are."""
ALIGNMENTS = st.sampled_from((1, SECTOR, 4 * KIB, 16 * KIB, 64 * KIB))
PATTERNS = st.integers(0, 20)


@dataclass
class Image:
    """An image file and what a guest must see in it."""

    path: Path
    features: Features | None
    content: bytearray
    backing: Image | None = None

    @property
    def format(self) -> str:
        return "raw" if self.features is RAW else "qcow2"

    def chain(self) -> list[Image]:
        """This image and those under it."""
        return [self, *(self.backing.chain() if self.backing else [])]


class Disks(RuleBasedStateMachine):
    """A few images. One of them may be open for writing, one that no other stands on."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = Path(tempfile.mkdtemp(prefix="cowherd-"))
        self.images: list[Image] = []
        self.made = 0
        self.opened: Image | None = None
        self.disk: Disk | None = None

    def teardown(self) -> None:
        try:
            self._close()
            for image in self.images:
                self._assert_qemu_agrees(image)
        finally:
            if self.disk is not None:
                self.disk.close()
            shutil.rmtree(self.scratch)

    # Images

    @initialize(features=FEATURES, size=SIZES)
    def begin(self, features: Features | None, size: int) -> None:
        self._add(features, size)

    @precondition(lambda self: len(self.images) < MOST_IMAGES)
    @rule(features=FEATURES, size=SIZES)
    def create(self, features: Features | None, size: int) -> None:
        self._add(features, size)

    @precondition(lambda self: len(self.images) < MOST_IMAGES)
    @rule(base=ANY, features=FEATURES.filter(lambda features: features is not RAW), size=st.none() | SIZES)
    def clone(self, base: int, features: Features, size: int | None) -> None:
        self._close()
        under = self._choose(base)
        length = len(under.content) if size is None else size
        overlay = Image(self._new_path(), features, bytearray(under.content[:length].ljust(length, b"\0")), under)
        create(overlay.path, size, options=features.chosen, backing=under.path.name, backing_format=under.format)
        self.images.append(overlay)

    @precondition(lambda self: len(self.images) < MOST_IMAGES)
    @rule(source=ANY, features=FEATURES, compress=st.booleans(), sparse=st.sampled_from((0, 512, 4096)))
    def convert(self, source: int, features: Features | None, compress: bool, sparse: int) -> None:
        self._close()
        original = self._choose(source)
        copy = Image(self._new_path(), features, bytearray(original.content))
        convert(
            original.path,
            copy.path,
            source_format=original.format,
            target_format=copy.format,
            options=dict(pair.split("=") for pair in features.options.split(",")) if features else None,
            compress=compress and features is not RAW,
            sparse_size=sparse,
        )
        self.images.append(copy)

    @rule(image=ANY)
    def commit(self, image: int) -> None:
        """Commits into the immediate backing file, if nothing else stands on that or on the overlay."""
        overlay = self._choose(image)
        base = overlay.backing
        if base is None or self._dependents(base) != [overlay] or self._dependents(overlay):
            return
        self._close()
        commit(overlay.path, format="qcow2")
        base.content[: len(overlay.content)] = overlay.content

    @rule(image=ANY, depth=ANY)
    def commit_deep(self, image: int, depth: int) -> None:
        """Commits into a deeper image; those between show the mixture of both and are not looked at again."""
        overlay = self._choose(image)
        chain = overlay.chain()
        if len(chain) < 3 or self._dependents(overlay):
            return
        target = 1 + depth % (len(chain) - 1)
        if any(self._dependents(chain[number]) != [chain[number - 1]] for number in range(1, target + 1)):
            return
        self._close()
        commit(overlay.path, format="qcow2", base=str(chain[target].path))
        chain[target].content[: len(overlay.content)] = overlay.content
        for between in chain[1:target]:
            self.images.remove(between)

    @rule(image=ANY, backing=ANY, to_none=st.booleans(), compress=st.booleans())
    def rebase(self, image: int, backing: int, to_none: bool, compress: bool) -> None:
        """Changes the backing file and keeps the content."""
        overlay, base = self._choose(image), None if to_none else self._choose(backing)
        if overlay.features is RAW or (base is not None and overlay in base.chain()):
            return
        self._close()
        name, format = (base.path.name, base.format) if base else ("", None)
        rebase(overlay.path, name, format="qcow2", backing_format=format, compress=compress)
        overlay.backing = base

    # Requests

    @rule(image=ANY)
    def open(self, image: int) -> None:
        self._close()
        chosen = self._choose(image)
        if not self._dependents(chosen):
            self.opened, self.disk = chosen, open_disk(chosen.path, format=chosen.format, writable=True)

    @precondition(lambda self: self.disk)
    @rule()
    def close(self) -> None:
        self._close()

    @precondition(lambda self: self.disk)
    @rule()
    def flush(self) -> None:
        self.disk.flush()

    @precondition(lambda self: self.disk)
    @rule(where=ANY, length=ANY, alignment=ALIGNMENTS, pattern=PATTERNS)
    def write(self, where: int, length: int, alignment: int, pattern: int) -> None:
        start, end = self._range(where, length, alignment)
        data = patterned(pattern, end - start)
        self.disk.write(start, data)
        self.opened.content[start:end] = data

    @precondition(lambda self: self.disk and self.opened.features is not RAW)
    @rule(where=ANY, length=ANY, pattern=PATTERNS)
    def write_compressed(self, where: int, length: int, pattern: int) -> None:
        start, end = self._range(where, length, self.opened.features.cluster_size)
        end = min(len(self.opened.content), -(-end // self.opened.features.cluster_size) * self.opened.features.cluster_size)
        data = patterned(pattern, end - start)
        self.disk.write_compressed(start, data)
        self.opened.content[start:end] = data

    @precondition(lambda self: self.disk)
    @rule(where=ANY, length=ANY, alignment=ALIGNMENTS, unmap=st.booleans())
    def zero(self, where: int, length: int, alignment: int, unmap: bool) -> None:
        start, end = self._range(where, length, alignment)
        self.disk.zero(start, end - start, unmap=unmap)
        self.opened.content[start:end] = bytes(end - start)

    @precondition(lambda self: self.disk)
    @rule(where=ANY, length=ANY, alignment=ALIGNMENTS)
    def discard(self, where: int, length: int, alignment: int) -> None:
        """Whole clusters, the disk's last may be shorter, read as zeros afterwards; all other bytes are as they were.

        A version 2 overlay keeps its bytes altogether. Of a raw image the whole range may be anything; it is read back.
        """
        start, end = self._range(where, length, alignment)
        self.disk.discard(start, end - start)
        content, features = self.opened.content, self.opened.features
        if features is RAW:
            content[start:end] = self.disk.read(start, end - start)
        elif features.version >= 3 or self.opened.backing is None:
            size = features.cluster_size
            first, last = -(-start // size) * size, end if end == len(content) else end // size * size
            content[first:last] = bytes(max(0, last - first))

    @precondition(lambda self: self.disk)
    @rule(size=SIZES)
    def resize(self, size: int) -> None:
        self.disk.resize(size)
        content = self.opened.content
        del content[size:]
        content.extend(bytes(size - len(content)))

    @precondition(lambda self: self.disk)
    @rule(where=ANY, length=ANY)
    def read(self, where: int, length: int) -> None:
        start, end = self._range(where, length, 1)
        assert self.disk.read(start, end - start) == self.opened.content[start:end]

    @invariant()
    def sizes_agree(self) -> None:
        if self.disk is not None:
            assert self.disk.size == len(self.opened.content)

    # What the rules share

    def _add(self, features: Features | None, size: int) -> None:
        image = Image(self._new_path(), features, bytearray(size))
        create(image.path, size, format=image.format, options=features.chosen if features else None)
        self.images.append(image)

    def _new_path(self) -> Path:
        self.made += 1
        return self.scratch / f"image{self.made}"

    def _choose(self, number: int) -> Image:
        return self.images[number % len(self.images)]

    def _dependents(self, base: Image) -> list[Image]:
        return [image for image in self.images if image.backing is base]

    def _range(self, where: int, length: int, alignment: int) -> tuple[int, int]:
        """A range inside the open disk, its start aligned; empty on an empty disk."""
        size = len(self.opened.content)
        start = where % (size + 1) // alignment * alignment
        return start, start + min(size - start, length % (40 * KIB) // alignment * alignment + (length // 7 % 3 == 0) * SECTOR)

    def _close(self) -> None:
        disk, self.disk, self.opened = self.disk, None, None
        if disk is not None:
            disk.close()

    def _assert_qemu_agrees(self, image: Image) -> None:
        qemu_img = qemu.Tool("qemu-img")
        if image.features is not RAW:
            qemu_img("check", "-f", "qcow2", image.path)
        with open_disk(image.path, format=image.format) as disk:
            assert disk.read(0, disk.size) == image.content
        raw = self.scratch / "content.raw"
        qemu_img("convert", "-f", image.format, "-O", "raw", image.path, raw)
        assert raw.read_bytes() == image.content


TestDisks = pytest.mark.qemu(Disks.TestCase)
TestDisks.settings = settings(
    max_examples=examples(30),
    stateful_step_count=STEPS,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
