"""QEMU and cowherd change the same images in turn, every feature of the format in use; after each turn both must see the same.

The tests try a few sequences. To search for longer:

    make differential MINUTES=60
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cowherd import extents as ext
from cowherd.image.open import open_disk
from cowherd.ops.commit import commit
from cowherd.ops.compare.compare import compare
from cowherd.ops.convert.convert import convert
from cowherd.ops.rebase.rebase import rebase
from cowherd.ops.resize import resize
from cowherd.storage.hostfile import HostFile
from tests.differential.maps import map_by_cowherd, map_by_qemu
from tests.images import (
    KINDS,
    MATRIX,
    MIB,
    Features,
    Model,
    Request,
    assert_same_windows,
    changed_by_cowherd,
    create_with_cowherd,
    create_with_qemu,
    for_qemu,
    run_in_qemu,
    sparse_copy,
    workload,
)
from tests.qemu import Tool

MOST_LAYERS = 4
MOST_SNAPSHOTS = 2
MOST_L1_ENTRIES = 4096
MOST_REBASED = 64 << 30
"""Larger disks take QEMU minutes."""
BY = st.sampled_from(("qemu", "cowherd"))
SEEDS = st.integers(0, 1 << 40)
FEATURES = st.sampled_from(MATRIX)
FACTORS = st.sampled_from((0.3, 0.9, 0.999, 1, 1.001, 1.2, 2.5))

figures: Counter[str] = Counter()
"""What was done so far in this process."""


@dataclass
class Image:
    """An image file, what a guest must see in it, and in its internal snapshots."""

    path: Path
    features: Features
    model: Model
    snapshots: dict[str, Model] = field(default_factory=dict)
    bitmaps: int = 0


class Turns(RuleBasedStateMachine):
    """A chain of images, the top one first."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = Path(tempfile.mkdtemp(prefix="cowherd-turns-"))
        self.chain: list[Image] = []
        self.made = 0
        figures["sequences"] += 1

    def teardown(self) -> None:
        try:
            for image in self.chain[:1]:
                for name, model in image.snapshots.items():
                    self._assert_snapshot(image, name, model)
        finally:
            shutil.rmtree(self.scratch)

    @property
    def top(self) -> Image:
        """The image that is changed."""
        return self.chain[0]

    @initialize(features=FEATURES, by=BY)
    def begin(self, features: Features, by: str) -> None:
        path = self._create(by, features, features.odd_size)
        self.chain = [Image(path, features, Model(self._path(), features.odd_size))]

    # Requests of a guest

    @rule(seed=SEEDS)
    def cowherd_writes(self, seed: int) -> None:
        """Requests of every kind."""
        requests = self._requests(seed, 1 + seed % 12)
        changed_by_cowherd(self.top.path, requests)
        self._note(requests)
        figures["turns of cowherd"] += 1

    @rule(seed=SEEDS)
    def qemu_writes(self, seed: int) -> None:
        """The same by QEMU; its compressed ones go to clusters that hold nothing, as it demands."""
        requests = self._requests(seed, 1 + seed % 12)
        figures["turns of QEMU"] += 1
        for kinds in (("compressed",), tuple(kind for kind in KINDS if kind != "compressed")):
            chosen = [request for request in requests if request.kind in kinds]
            chosen = [request for request in chosen if request.kind != "compressed" or self._is_unwritten(request)]
            if chosen:
                run_in_qemu(self.top.path, chosen, self.top.features)
                self._note([request for request in chosen if request.kind != "compressed"] or _first_of_each(chosen, self.top))

    @rule(seed=SEEDS, number=st.integers(1, 6))
    def killed(self, seed: int, number: int) -> None:
        """QEMU is killed after a flush; with lazy refcounts that leaves an image for the next writer to repair."""
        requests = [request for request in self._requests(seed, number) if request.kind in ("write", "zero", "unmap")]
        commands: list[str] = []
        for request in requests:
            zero = "" if request.kind == "write" else "-z "
            data = f"-P {request.pattern + 1} " if request.kind == "write" else ""
            commands += ["-c", f"write -q {zero}{data}{request.offset} {request.length}"]
        command = ["qemu-io", "-f", "qcow2", *commands, "-c", "flush", "-c", "sigraise 9", str(self.top.path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        figures["QEMU killed"] += 1
        for request in requests:
            data = bytes([request.pattern + 1]) * request.length if request.kind == "write" else bytes(request.length)
            self.top.model.put(request.offset, data)
        open_disk(self.top.path, format="qcow2", writable=True).close()
        Tool("qemu-img")("check", "-q", "-r", "leaks", "-f", "qcow2", self.top.path)

    # Jobs

    @rule(by=BY, factor=FACTORS)
    def resize(self, by: str, factor: float) -> None:
        image = self.top
        size = max(512, int(image.model.size * factor) // 512 * 512)
        if size < image.model.size:  # QEMU shows old bytes again where a disk that ended inside a cluster grows
            size = -(-size // image.features.cluster_size) * image.features.cluster_size
        if size > image.model.size and factor < 1:
            return
        if image.bitmaps or (image.snapshots and image.features.version < 3) or not _fits(image.features, size):
            return
        if by == "cowherd" or (size > image.model.size and image.features.version < 3 and len(self.chain) > 1):
            # QEMU refuses to grow an overlay of version 2, which has no clusters of zeros to hide the base's end with.
            resize(image.path, size, format="qcow2", shrink=True)
        else:
            Tool("qemu-img")("resize", "-q", "--shrink", "-f", "qcow2", image.path, size)
        image.model.resize(size)
        figures["resized"] += 1

    @precondition(lambda self: len(self.chain) < MOST_LAYERS)
    @rule(by=BY, features=FEATURES, factor=FACTORS)
    def overlay(self, by: str, features: Features, factor: float) -> None:
        base = self.top
        size = max(512, int(base.model.size * factor) // 512 * 512)
        features = features if _fits(features, size) else replace(features, cluster_size=2 * MIB)
        model = base.model.copy(self._path())
        model.resize(size)
        self.chain.insert(0, Image(self._create(by, features, size, base), features, model))
        figures["overlays"] += 1

    @precondition(lambda self: len(self.chain) > 1)
    @rule(by=BY)
    def commit(self, by: str) -> None:
        overlay, base = self.chain[:2]
        grows = overlay.model.size > base.model.size
        if overlay.snapshots or (grows and (base.snapshots or base.bitmaps)) or not _fits(base.features, overlay.model.size):
            return
        if by == "cowherd":
            commit(overlay.path, format="qcow2")
        else:
            Tool("qemu-img")("commit", "-q", "-f", "qcow2", overlay.path)
        kept = base.model.size
        base.model = self._overlaid(overlay.model, base.model)
        assert base.model.size == max(kept, overlay.model.size)
        figures["commits"] += 1

    @precondition(lambda self: len(self.chain) > 1 and not self.top.snapshots)
    @rule(by=BY, to=st.integers(0, MOST_LAYERS))
    def rebase(self, by: str, to: int) -> None:
        """Puts the top on another layer of its chain, or on nothing."""
        if by == "qemu" and self.top.model.size > MOST_REBASED:
            return
        under = self.chain[1:][to : to + 1]
        name = under[0].path.name if under else ""
        if by == "cowherd":
            rebase(self.top.path, name, format="qcow2", backing_format="qcow2" if under else None)
        else:
            words = ("rebase", "-q", "-f", "qcow2", *(("-F", "qcow2") if under else ()), "-b", name, self.top.path)
            done = Tool("qemu-img").run(*words)
            assert done.returncode in (0, -signal.SIGSEGV), done.stderr
            if done.returncode:  # QEMU 10.0.2 crashes in one of some hundred, before it changes what the image shows
                Tool("qemu-img")("check", "-q", "-r", "leaks", "-f", "qcow2", self.top.path, codes=(0, 3))
                figures["rebases in which QEMU crashed"] += 1
                return
        self.chain[1:] = self.chain[1:][to:]
        figures["rebased"] += 1

    @rule(by=BY, features=FEATURES, compress=st.booleans())
    def convert(self, by: str, features: Features, compress: bool) -> None:
        """Goes on with a copy in other features, and without a chain."""
        source, target = self.top, self._path()
        features = features if _fits(features, source.model.size) else replace(features, cluster_size=2 * MIB)
        if by == "cowherd":
            options = dict(pair.split("=") for pair in features.options.split(","))
            convert(source.path, target, source_format="qcow2", target_format="qcow2", options=options, compress=compress)
        else:
            flags = ("-c",) if compress else ()
            Tool("qemu-img")("convert", *flags, "-f", "qcow2", "-O", "qcow2", "-o", features.options, source.path, target)
        self.chain = [Image(target, features, source.model)]
        figures["converted"] += 1

    # What only QEMU does

    @precondition(lambda self: self.chain and len(self.top.snapshots) < MOST_SNAPSHOTS and self.top.features.refcount_bits >= 8)
    @rule()
    def take_snapshot(self) -> None:
        self.made += 1
        name = f"snapshot{self.made}"
        Tool("qemu-img")("snapshot", "-c", name, self.top.path)
        self.top.snapshots[name] = self.top.model.copy(self._path())
        figures["snapshots"] += 1

    @precondition(lambda self: self.chain and self.top.snapshots)
    @rule(which=st.integers(0, 9), revert=st.booleans())
    def use_snapshot(self, which: int, revert: bool) -> None:
        """Deletes a snapshot, or goes back to it."""
        name = sorted(self.top.snapshots)[which % len(self.top.snapshots)]
        if revert:
            if self.top.bitmaps:
                return
            Tool("qemu-img")("snapshot", "-a", name, self.top.path)
            self.top.model = self.top.snapshots[name].copy(self._path())
        else:
            Tool("qemu-img")("snapshot", "-d", name, self.top.path)
            del self.top.snapshots[name]

    @precondition(lambda self: self.chain and self.top.features.version == 3 and self.top.bitmaps < 2)
    @rule()
    def add_bitmap(self) -> None:
        """One that records nothing: QEMU alone writes to images whose bitmaps do."""
        Tool("qemu-img")("bitmap", "--add", "--disable", "-f", "qcow2", self.top.path, f"bitmap{self.top.bitmaps}")
        self.top.bitmaps += 1
        figures["bitmaps"] += 1

    @precondition(lambda self: self.chain and self.top.bitmaps)
    @rule()
    def remove_bitmap(self) -> None:
        self.top.bitmaps -= 1
        Tool("qemu-img")("bitmap", "--remove", "-f", "qcow2", self.top.path, f"bitmap{self.top.bitmaps}")

    @precondition(lambda self: self.chain and self.top.features.version == 3)
    @rule(bits=st.sampled_from((16, 32, 64)), lazy=st.booleans())
    def amend(self, bits: int, lazy: bool) -> None:
        """Changes the width of refcounts, and whether they are lazy; not of large clusters, which takes QEMU minutes."""
        if self.top.features.cluster_size > MIB // 16:
            return
        options = f"refcount_bits={bits},lazy_refcounts={'on' if lazy else 'off'}"
        Tool("qemu-img")("amend", "-q", "-f", "qcow2", "-o", options, self.top.path)
        self.top.features = replace(self.top.features, refcount_bits=bits, lazy_refcounts=lazy)
        figures["amended"] += 1

    # What must hold after every turn

    @invariant()
    def both_see_the_same(self) -> None:
        if not self.chain:
            return
        image = self.top
        for each in self.chain[:2]:
            Tool("qemu-img")("check", "-q", "-f", "qcow2", each.path)
        Tool("qemu-img")("compare", "-q", "-f", "qcow2", "-F", "raw", image.path, image.model.path)
        assert compare(image.path, image.model.path, format_a="qcow2", format_b="raw").identical
        with open_disk(image.path, format="qcow2") as disk:
            assert disk.size == image.model.size
            assert_same_windows(disk, image.model.path, image.features.windows(disk.size))
            assert map_by_cowherd(disk) == map_by_qemu(image.path)
        figures["comparisons"] += 1

    def _path(self) -> Path:
        self.made += 1
        return self.scratch / f"{self.made}.img"

    def _create(self, by: str, features: Features, size: int, base: Image | None = None) -> Path:
        make = create_with_cowherd if by == "cowherd" else create_with_qemu
        figures["images"] += 1
        return make(self._path(), features, size, backing=base and base.path)

    def _requests(self, seed: int, number: int) -> list[Request]:
        requests = workload(seed, self.top.features, self.top.model.size, number)
        figures["requests"] += len(requests)
        return requests

    def _note(self, requests: Sequence[Request]) -> None:
        keeps = self.top.features.version < 3 and len(self.chain) > 1  # version 2 can't hide the bytes of a base
        self.top.model.apply(requests, cluster_size=self.top.features.cluster_size, discards=not keeps)

    def _is_unwritten(self, request: Request) -> bool:
        with open_disk(self.top.path, format="qcow2", backing=False) as disk:
            return all((batch["kind"] == ext.BACKING).all() for batch in disk.extents(request.offset, request.length))

    def _overlaid(self, above: Model, below: Model) -> Model:
        """What a base shows after a commit: the overlay, and behind its end what it had."""
        merged = above.copy(self._path())
        merged.resize(max(above.size, below.size))
        with HostFile.open(below.path, lock=None) as file:
            for start, end in file.data_ranges(above.size, below.size):
                merged.put(start, below.get(start, end - start))
        return merged

    def _assert_snapshot(self, image: Image, name: str, model: Model) -> None:
        copy = sparse_copy(image.path, self._path())
        qemu_img = Tool("qemu-img")
        for number in range(image.bitmaps):  # QEMU goes back to no snapshot while there are any
            qemu_img("bitmap", "--remove", "-f", "qcow2", copy, f"bitmap{number}")
        qemu_img("snapshot", "-a", name, copy)
        qemu_img("check", "-q", "-f", "qcow2", copy)
        qemu_img("compare", "-q", "-f", "qcow2", "-F", "raw", copy, model.path)


def _fits(features: Features, size: int) -> bool:
    """Whether the tables of such an image stay small enough to be compared after every turn."""
    return size <= features.reach * MOST_L1_ENTRIES


def _first_of_each(requests: Sequence[Request], image: Image) -> list[Request]:
    """The compressed writes that QEMU carried out: the first to each cluster, as `for_qemu` has it."""
    return for_qemu(requests, image.features.cluster_size)
