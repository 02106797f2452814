"""Images for tests: the feature matrix, and workloads that QEMU, cowherd and a plain file carry out alike.

A workload's requests lie in a few windows of the disk (its start, the border between two L2 tables, its end), so that disks may
be as large as their tables need them to be while a model of one is a small sparse file.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from cowherd.ops.create import create
from tests.qemu import Tool

KIB, MIB = 1 << 10, 1 << 20
SECTOR = 512
# Lengths that share no factor with any cluster size: a byte that is read from the wrong place differs. Deflate finds
# no repetition within its window of 4 KiB in the last two, so that some clusters do not compress.
PATTERN_LENGTHS = (61, 251, 1021, 9973, 65521)


def examples(number: int) -> int:
    """How many examples a property test tries: `number`, or what COWHERD_EXAMPLES says, to search for longer."""
    return int(os.environ.get("COWHERD_EXAMPLES", number))


@dataclass(frozen=True)
class Features:
    """One choice of the format's features."""

    cluster_size: int = 65536
    version: int = 3
    extended_l2: bool = False
    refcount_bits: int = 16
    compression: str = "zlib"
    lazy_refcounts: bool = False

    def __str__(self) -> str:
        size = f"{self.cluster_size // KIB}k" if self.cluster_size >= KIB else str(self.cluster_size)
        parts = [f"v{self.version}", size]
        parts += ["subclusters"] if self.extended_l2 else []
        parts += [f"rc{self.refcount_bits}"] if self.refcount_bits != 16 else []
        parts += [self.compression] if self.compression != "zlib" else []
        parts += ["lazy"] if self.lazy_refcounts else []
        return "-".join(parts)

    @property
    def options(self) -> str:
        """These features as `qemu-img create -o` takes them."""
        chosen = [f"compat={'1.1' if self.version == 3 else '0.10'}", f"cluster_size={self.cluster_size}"]
        if self.version == 3:
            chosen += [f"refcount_bits={self.refcount_bits}", f"compression_type={self.compression}"]
            chosen += ["extended_l2=on"] * self.extended_l2 + ["lazy_refcounts=on"] * self.lazy_refcounts
        return ",".join(chosen)

    @property
    def chosen(self) -> Qcow2Options:
        """These features as cowherd takes them."""
        return Qcow2Options(**vars(self))

    @property
    def reach(self) -> int:
        """Guest bytes that one L2 table maps."""
        return self.cluster_size // (16 if self.extended_l2 else 8) * self.cluster_size

    @property
    def window(self) -> int:
        """Bytes of each window that workloads use."""
        return max(2 * self.cluster_size, min(40 * self.cluster_size, 2 * MIB))

    @property
    def odd_size(self) -> int:
        """A disk size that needs two L2 tables and ends inside a cluster (a sector short of its end for the smallest
        clusters)."""
        return self.reach + self.window + min(5 * SECTOR, self.cluster_size - SECTOR)

    def windows(self, size: int) -> list[tuple[int, int]]:
        """The (start, end) ranges of a disk that workloads use: its start, around the first L2 table's end, its end."""
        half = self.window // 2
        places = [(0, self.window), (self.reach - half, self.reach + half), (size - self.window, size)]
        return [(max(0, start), min(size, end)) for start, end in places if start < size]


def _matrix() -> Iterator[Features]:
    for bits in range(9, 22):
        yield Features(1 << bits)
    for size in (512, 4 * KIB, 64 * KIB, 2 * MIB):
        yield Features(size, version=2)
    for bits in range(14, 22):
        yield Features(1 << bits, extended_l2=True)
    for width in (1, 2, 4, 8, 32, 64):
        yield Features(64 * KIB, refcount_bits=width)
        yield Features(512, refcount_bits=width)
    for size in (512, 64 * KIB, 2 * MIB):
        yield Features(size, compression="zstd")
    yield Features(16 * KIB, extended_l2=True, compression="zstd", refcount_bits=1)
    yield Features(128 * KIB, extended_l2=True, compression="zstd", refcount_bits=64, lazy_refcounts=True)
    yield Features(4 * KIB, lazy_refcounts=True, refcount_bits=8)
    yield Features(64 * KIB, lazy_refcounts=True)


MATRIX = tuple(_matrix())
"""Every cluster size, version, subcluster size, refcount width and codec, and some of their combinations."""

TELLING = (
    Features(512),
    Features(512, refcount_bits=1),
    Features(4 * KIB, version=2),
    Features(),
    Features(compression="zstd", refcount_bits=64),
    Features(16 * KIB, extended_l2=True),
    Features(128 * KIB, extended_l2=True, compression="zstd"),
)
"""A few choices that differ in all that matters, for tests that take long or multiply by something else."""


@dataclass(frozen=True)
class Request:
    """One guest request: `kind` is "write", "compressed", "zero", "unmap" (zero that may give space back), "discard" or
    "flush"."""

    kind: str
    offset: int = 0
    length: int = 0
    pattern: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.length

    @property
    def data(self) -> bytes:
        """What a write writes."""
        return patterned(self.pattern, self.length)


@cache
def pattern(number: int) -> bytes:
    """The bytes that writes with this pattern repeat: random, without zeros."""
    generator = random.Random(number)
    return bytes(generator.choices(range(1, 256), k=PATTERN_LENGTHS[number % len(PATTERN_LENGTHS)]))


def patterned(number: int, length: int) -> bytes:
    """`length` bytes of a pattern, repeated from its start as qemu-io does."""
    whole = pattern(number)
    return (whole * (length // len(whole) + 1))[:length]


KINDS = ("write", "write", "write", "compressed", "zero", "unmap", "discard", "flush")


def workload(seed: int, features: Features, size: int, number: int = 24, kinds: Sequence[str] = KINDS) -> list[Request]:
    """`number` random requests in the windows of a disk of `size` bytes, the same for the same seed."""
    generator = random.Random(f"{seed} {features} {size}")
    windows = features.windows(size)
    return [_request(generator, generator.choice(kinds), features, generator.choice(windows)) for _ in range(number)]


def for_qemu(requests: Sequence[Request], cluster_size: int) -> list[Request]:
    """Moves compressed writes to the front, without those to clusters that another one wrote.

    QEMU refuses to overwrite a cluster with a compressed one, which cowherd does not. And once a compressed cluster was given
    back, QEMU 10.0 puts the next one behind it, into a cluster that may be something else by now (an L2 table, say).
    """
    first: list[Request] = []
    written: set[int] = set()
    for request in requests:
        clusters = set(range(request.offset // cluster_size, -(-request.end // cluster_size)))
        if request.kind == "compressed" and not clusters & written:
            first.append(request)
            written |= clusters
    return first + [request for request in requests if request.kind != "compressed"]


def _request(generator: random.Random, kind: str, features: Features, window: tuple[int, int]) -> Request:
    low, high = window
    if kind == "flush":
        return Request("flush")
    cluster = features.cluster_size
    if kind == "compressed":
        first = -(-low // cluster) * cluster
        offset = generator.randrange(first, max(first + 1, high), cluster)
        # QEMU takes whole clusters only; the last one of a disk that ends inside a cluster may be shorter.
        length = min(cluster * generator.randint(1, 3), high - offset)
        length = length if high % cluster and offset + length == high else length // cluster * cluster
        return Request("compressed", offset, length, generator.randrange(99)) if length > 0 else Request("flush")
    unit = generator.choice((1, SECTOR, features.cluster_size // 32 or 1, cluster, cluster))
    offset = max(low, generator.randrange(low, high) // unit * unit)
    length = min(generator.choice((1, 3, 17, 64)) * unit + generator.choice((0, 0, unit // 2)), high - offset)
    return Request(kind, offset, length, generator.randrange(99))


class Model:
    """A disk as a sparse file: what a guest must see, written without any image format."""

    def __init__(self, path: Path, size: int, *, keep: bool = False):
        """Makes an empty disk of `size` bytes, or takes over the content that `path` has if `keep`."""
        self.path, self.size = path, size
        if not keep:
            path.write_bytes(b"")
        os.truncate(path, size)

    def apply(self, requests: Iterable[Request], *, discards: bool = True, cluster_size: int = 0) -> None:
        """Carries out `requests`; those to discard make whole clusters zero, or nothing if not `discards`."""
        for request in requests:
            if request.kind in ("write", "compressed"):
                self.put(request.offset, request.data)
            elif request.kind in ("zero", "unmap"):
                self.put(request.offset, bytes(request.length))
            elif request.kind == "discard" and discards:
                start = -(-request.offset // cluster_size) * cluster_size
                end = request.end if request.end == self.size else request.end // cluster_size * cluster_size
                self.put(start, bytes(max(0, end - start)))

    def put(self, offset: int, data: bytes) -> None:
        fd = os.open(self.path, os.O_WRONLY)
        try:
            os.pwrite(fd, data, offset)
        finally:
            os.close(fd)

    def get(self, offset: int, length: int) -> bytes:
        fd = os.open(self.path, os.O_RDONLY)
        try:
            return os.pread(fd, length, offset).ljust(length, b"\0")
        finally:
            os.close(fd)

    def resize(self, size: int) -> None:
        os.truncate(self.path, size)
        self.size = size

    def copy(self, path: Path) -> Model:
        """Returns another disk with the same content."""
        return Model(sparse_copy(self.path, path), self.size, keep=True)


def sparse_copy(source: Path, target: Path) -> Path:
    """Copies a file without filling its holes."""
    Tool("cp")("--sparse=always", source, target)
    return target


def create_with_qemu(
    path: Path, features: Features, size: int, *, backing: Path | None = None, backing_format: str = "qcow2"
) -> Path:
    """Makes an empty image with qemu-img."""
    under = ("-b", backing, "-F", backing_format) if backing else ()
    Tool("qemu-img")("create", "-q", "-f", "qcow2", "-o", features.options, *under, path, size)
    return path


def create_with_cowherd(
    path: Path, features: Features, size: int, *, backing: Path | None = None, backing_format: str = "qcow2"
) -> Path:
    """Makes an empty image with cowherd."""
    recorded = backing_format if backing else None
    create(path, size, options=features.chosen, backing=str(backing) if backing else None, backing_format=recorded)
    return path


def run_in_qemu(path: Path, requests: Sequence[Request], features: Features) -> None:
    """Lets QEMU carry out `requests` in the order of `for_qemu`, discards passed on to the file.

    Some may be compressed if the image is new.
    """
    commands: list[str] = []
    for request in for_qemu(requests, features.cluster_size):
        commands += ["-c", _qemu_command(request, path.parent)]
    Tool("qemu-io")("-d", "unmap", "-f", "qcow2", *commands, path)


def _qemu_command(request: Request, scratch: Path) -> str:
    place = f"{request.offset} {request.length}"
    if request.kind == "flush":
        return "flush"
    if request.kind == "discard":
        return f"discard -q {place}"
    if request.kind in ("zero", "unmap"):
        return f"write -q -z {'-u ' if request.kind == 'unmap' else ''}{place}"
    source = scratch / f"pattern-{request.pattern}"
    if not source.exists():
        source.write_bytes(pattern(request.pattern))
    return f"write -q {'-c ' if request.kind == 'compressed' else ''}-s {source} {place}"


def run_in_cowherd(disk: Disk, requests: Iterable[Request]) -> None:
    """Lets cowherd carry out `requests` on a disk that is open for writing."""
    for request in requests:
        if request.kind == "write":
            disk.write(request.offset, request.data)
        elif request.kind == "compressed":
            disk.write_compressed(request.offset, request.data)
        elif request.kind in ("zero", "unmap"):
            disk.zero(request.offset, request.length, unmap=request.kind == "unmap")
        elif request.kind == "discard":
            disk.discard(request.offset, request.length)
        else:
            disk.flush()


def changed_by_cowherd(path: Path, requests: Iterable[Request]) -> None:
    """Opens an image, carries out `requests` and closes it."""
    with open_disk(path, format="qcow2", writable=True) as disk:
        run_in_cowherd(disk, requests)


def assert_same_windows(disk: Disk, truth: Path, windows: Iterable[tuple[int, int]]) -> None:
    """Fails where what `disk` shows in `windows` is not what the raw file `truth` holds there; says the first such byte."""
    with truth.open("rb") as file:
        for start, end in windows:
            file.seek(start)
            expected = file.read(end - start).ljust(end - start, b"\0")
            found = disk.read(start, end - start)
            if found != expected:
                wrong = next(i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
                count = sum(a != b for a, b in zip(found, expected, strict=True))
                where = f"{disk.path}: guest byte {start + wrong:#x}"
                raise AssertionError(f"{where} is {found[wrong]:#x}, expected {expected[wrong]:#x} ({count} bytes are wrong)")


def assert_sound(path: Path) -> None:
    """Fails unless `qemu-img check` finds neither an error nor a leak."""
    Tool("qemu-img")("check", "-f", "qcow2", path)


def qemu_content(path: Path, target: Path, *, format: str = "qcow2") -> Path:
    """Returns what QEMU reads from an image, as a sparse raw file."""
    Tool("qemu-img")("convert", "-f", format, "-O", "raw", path, target)
    return target
