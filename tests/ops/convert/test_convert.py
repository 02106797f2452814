"""Converting: the target holds what the source shows, whatever both are made of, and is an image only when it is finished."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cowherd import extents
from cowherd.errors import HostFileError, ImageFormatError, ImageInUse, InvalidRequest
from cowherd.image.open import open_disk
from cowherd.ops.convert.convert import convert
from cowherd.storage import copying
from cowherd.storage.hostfile import HostFile
from tests.storage.hosts import reflink_file_system

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
SIZE = 5 * MIB + 3 * 512
OPTIONS = [
    {},
    {"cluster_size": "512"},
    {"cluster_size": "2M"},
    {"extended_l2": "on"},
    {"compat": "0.10"},
    {"refcount_bits": "1"},
    {"compression_type": "zstd", "refcount_bits": "64"},
]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A raw disk of an odd size with data, zeros that are stored, and holes."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(SIZE)
        for offset, length in ((0, 5000), (MIB - 100, 200), (2 * MIB, MIB), (SIZE - 700, 700)):
            file.seek(offset)
            file.write(os.urandom(length))
        file.seek(3 * MIB)
        file.write(bytes(MIB))
    return path


@pytest.fixture
def overlay(tmp_path: Path, raw: Path, qemu_img, qemu_io) -> Path:
    """An overlay, on a base that is shorter than it, that holds data, compressed data and zeros of its own."""
    path = tmp_path / "overlay.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", path, SIZE + MIB)
    qemu_io("-c", "write -P 1 100k 300k", "-c", "write -z 2M 256k", "-c", "write -c -P 2 4M 64k", "-c", "write -P 3 6M 512", path)
    return path


def assert_holds(qemu_img, target: Path, format: str, source: Path) -> None:
    assert "identical" in qemu_img("compare", "-F", format, source, target)
    if format == "qcow2":
        assert "No errors" in qemu_img("check", target)


@pytest.mark.parametrize(
    ("compress", "in_kernel"), [(True, False), (False, False), (False, True)], ids=["compressed", "read", "taken"]
)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("source", ["raw", "overlay"])
def test_qcow2_targets_hold_what_the_source_shows(request, tmp_path, qemu_img, monkeypatch, source, options, compress, in_kernel):
    monkeypatch.setattr("cowherd.ops.convert.sinks.has_copies_of_its_own", lambda file: in_kernel)
    origin = request.getfixturevalue(source)
    target = tmp_path / "target.qcow2"
    convert(origin, target, target_format="qcow2", options=options, compress=compress)
    assert_holds(qemu_img, target, "qcow2", origin)


@pytest.mark.parametrize("sparse_size", [0, 4096, 65536])
@pytest.mark.parametrize("source", ["raw", "overlay"])
def test_raw_targets_hold_what_the_source_shows(request, tmp_path, qemu_img, source, sparse_size):
    origin = request.getfixturevalue(source)
    target = tmp_path / "target.raw"
    convert(origin, target, target_format="raw", sparse_size=sparse_size)
    assert_holds(qemu_img, target, "raw", origin)


def test_zeros_become_holes(tmp_path, raw):
    convert(raw, tmp_path / "target.raw", target_format="raw")
    assert (tmp_path / "target.raw").stat().st_blocks * 512 < 2 * MIB


def test_without_a_sparse_size_the_target_is_fully_allocated(tmp_path, raw):
    convert(raw, tmp_path / "target.raw", target_format="raw", sparse_size=0)
    assert (tmp_path / "target.raw").stat().st_blocks * 512 >= SIZE // 4096 * 4096


@pytest.mark.parametrize("preallocation", ["metadata", "falloc", "full"])
@pytest.mark.parametrize("extended_l2", ["off", "on"])
def test_preallocated_targets_hold_what_the_source_shows(tmp_path, qemu_img, overlay, preallocation, extended_l2):
    target = tmp_path / "target.qcow2"
    convert(overlay, target, target_format="qcow2", options={"preallocation": preallocation, "extended_l2": extended_l2})
    assert_holds(qemu_img, target, "qcow2", overlay)


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize(("cluster_size", "disk_bytes"), [("4k", 2 * MIB), ("64k", 2 * MIB), ("1M", 6 * MIB)])
def test_with_a_backing_file_only_what_the_source_holds_itself_is_copied(
    tmp_path, qemu_img, raw, overlay, cluster_size, disk_bytes, compress
):
    target = tmp_path / "target.qcow2"
    options = {"cluster_size": cluster_size}
    backing = {"backing": str(raw), "backing_format": "raw"}
    convert(overlay, target, target_format="qcow2", options=options, compress=compress, **backing)
    assert_holds(qemu_img, target, "qcow2", overlay)
    with open_disk(target, backing=False) as disk:
        own = sum(int(batch["length"][batch["kind"] != extents.BACKING].sum()) for batch in disk.extents())
    assert own < disk_bytes


def test_several_sources_are_joined_although_none_ends_with_a_cluster(tmp_path, qemu_img, raw, overlay):
    convert([raw, overlay, raw], tmp_path / "ours.qcow2", target_format="qcow2")
    qemu_img("convert", "-O", "qcow2", raw, overlay, raw, tmp_path / "theirs.qcow2")
    assert_holds(qemu_img, tmp_path / "ours.qcow2", "qcow2", tmp_path / "theirs.qcow2")


def test_an_existing_image_gets_the_content_and_keeps_what_lies_behind(tmp_path, qemu_img, qemu_io, raw):
    target = tmp_path / "target.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", target, "8M")
    qemu_io("-c", "write -P 9 0 8M", target)
    convert(raw, target, target_format="qcow2", create_target=False)
    with open_disk(target) as disk:
        assert disk.read(0, SIZE) == raw.read_bytes()
        assert disk.read(SIZE, 1000) == b"\x09" * 1000


def test_an_empty_disk_is_converted(tmp_path, qemu_img):
    (tmp_path / "empty.raw").touch()
    convert(tmp_path / "empty.raw", tmp_path / "target.qcow2", target_format="qcow2")
    assert_holds(qemu_img, tmp_path / "target.qcow2", "qcow2", tmp_path / "empty.raw")


def test_progress_ends_with_everything(tmp_path, raw):
    seen: list[tuple[int, int]] = []
    convert(raw, tmp_path / "target.raw", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (SIZE, SIZE)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_target_that_was_not_finished_is_not_an_image(tmp_path, raw, monkeypatch):
    target, written = tmp_path / "target.qcow2", HostFile.pwrite

    def fails_late(self: HostFile, offset: int, data: bytes) -> None:
        if self.path == target and offset > MIB:
            raise HostFileError(target, "write", OSError(28, "No space left on device"))
        written(self, offset, data)

    monkeypatch.setattr(HostFile, "pwrite", fails_late)
    with pytest.raises(HostFileError, match="No space left"):
        convert(raw, target, target_format="qcow2")
    with pytest.raises(ImageFormatError):
        open_disk(target, format="qcow2")


def test_a_source_that_is_the_target_is_refused(raw):
    before = raw.read_bytes()
    with pytest.raises(ImageInUse):
        convert(raw, raw, target_format="raw")
    assert raw.read_bytes() == before


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"target_format": "vmdk"}, "Unknown file format"),
        ({"target_format": "raw", "compress": True}, "Compression not supported"),
        ({"target_format": "qcow2", "compress": True, "options": {"preallocation": "full"}}, "same time"),
        ({"target_format": "qcow2", "sparse_size": 100}, "multiple of 512"),
        ({"target_format": "qcow2", "options": {"cluster_size": "3k"}}, "power of two"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_old_target_is_lost(tmp_path, raw, wrong, problem):
    target = tmp_path / "target"
    target.write_bytes(b"old")
    with pytest.raises(InvalidRequest, match=problem):
        convert(raw, target, **wrong)
    assert target.read_bytes() == b"old"


@pytest.fixture(scope="module")
def reflinks(tmp_path_factory):
    with reflink_file_system(tmp_path_factory.mktemp("convert")) as directory:
        yield directory


@pytest.fixture(autouse=True)
def _room(request):
    yield
    if "reflinks" in request.fixturenames:
        for path in request.getfixturevalue("reflinks").iterdir():
            path.unlink()


def _used(directory: Path) -> int:
    os.sync()
    facts = os.statvfs(directory)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


@pytest.mark.parametrize("options", [{}, {"cluster_size": "4k"}, {"extended_l2": "on"}], ids=str)
def test_with_reflink_the_target_shares_the_sources_blocks(reflinks, qemu_img, options):
    source, image, back = reflinks / "disk.raw", reflinks / "image.qcow2", reflinks / "back.raw"
    source.write_bytes(os.urandom(12 * MIB) + bytes(4 * MIB) + os.urandom(512))
    before = _used(reflinks)
    convert(source, image, target_format="qcow2", options=options)
    convert(image, back, target_format="raw")
    assert _used(reflinks) - before < 4 * MIB
    assert_holds(qemu_img, image, "qcow2", source)
    assert back.read_bytes() == source.read_bytes()


def test_a_change_to_a_shared_block_stays_in_its_own_image(reflinks):
    source, image = reflinks / "disk.raw", reflinks / "image.qcow2"
    source.write_bytes(b"a" * 4 * MIB)
    convert(source, image, target_format="qcow2")
    with open_disk(image, writable=True) as disk:
        disk.write(MIB, b"b" * MIB)
    assert source.read_bytes() == b"a" * 4 * MIB
    with open_disk(image) as disk:
        assert disk.read(0, 4 * MIB) == b"a" * MIB + b"b" * MIB + b"a" * 2 * MIB


def test_blocks_that_can_not_be_shared_after_all_are_copied(reflinks, qemu_img, monkeypatch):
    source, image = reflinks / "disk.raw", reflinks / "image.qcow2"
    source.write_bytes(os.urandom(3 * MIB))
    monkeypatch.setattr("cowherd.storage.copying.clone_range", lambda *place: False)
    convert(source, image, target_format="qcow2")
    assert_holds(qemu_img, image, "qcow2", source)


def test_a_file_system_without_reflink_is_known_as_such(tmp_path):
    memory = Path("/dev/shm")
    if not memory.is_dir() or os.statvfs(memory).f_flag & os.ST_RDONLY:
        pytest.skip("there is no file system in memory")
    path = memory / f"cowherd-{os.getpid()}"
    path.write_bytes(b"x" * MIB)
    try:
        with HostFile.open(path, lock=None) as source, HostFile.open(path, writable=True, lock=None) as target:
            assert not copying.can_clone(source, target)
    finally:
        path.unlink()


def test_clusters_of_long_runs_that_begin_with_data_are_not_read_where_the_file_system_copies(
    tmp_path, raw, qemu_img, monkeypatch
):
    monkeypatch.setattr("cowherd.ops.convert.sinks.has_copies_of_its_own", lambda file: True)
    read: list[int] = []
    original = HostFile.preadinto
    monkeypatch.setattr(HostFile, "preadinto", lambda *given: read.append(len(given[-1])) or original(*given))
    target = tmp_path / "image.qcow2"
    raw.write_bytes(os.urandom(4 * MIB) + bytes(MIB) + bytes(64) + b"late" * 1000 + bytes(MIB - 4064))
    convert(raw, target, source_format="raw", target_format="qcow2")
    monkeypatch.undo()
    assert sum(read) == 2 * MIB  # what begins with zeros
    assert_holds(qemu_img, target, "qcow2", raw)
    with open_disk(target) as disk:
        held = sum(extents.total(extents.ranges_of(extents.of_kind(batch, extents.DATA))) for batch in disk.extents())
    assert held == 4 * MIB + 64 * 1024


@pytest.mark.parametrize("unit", ["4k", "64k", "0"])
def test_a_raw_copy_has_the_holes_that_were_asked_for(tmp_path, qemu_img, unit):
    source, image, target = (tmp_path / name for name in ("disk.raw", "image.qcow2", "copy.raw"))
    pieces = [os.urandom(4096), bytes(4096 * 15), os.urandom(65536), bytes(4 * 65536), b"x" + bytes(65535)] * 8
    source.write_bytes(b"".join(pieces))
    qemu_img("convert", "-f", "raw", "-O", "qcow2", source, image)
    convert(image, target, source_format="qcow2", sparse_size={"4k": 4096, "64k": 65536, "0": 0}[unit])
    assert target.read_bytes() == source.read_bytes()
    with HostFile.open(target, lock=None) as file:
        held = sum(end - start for start, end in file.data_ranges(0, file.size()))
    assert held == {"4k": 8 * 18 * 4096, "64k": 8 * 3 * 65536, "0": 8 * 7 * 65536}[unit]


@pytest.mark.parametrize("sparse_size", [512, 1536, 4096, 12288])
@pytest.mark.parametrize("target", ["new raw", "new qcow2", "old raw", "old qcow2"])
def test_scattered_pieces_of_any_size_arrive_where_they_belong(tmp_path, qemu_img, target, sparse_size):
    source, copy, format = tmp_path / "disk.qcow2", tmp_path / "copy", target.split()[1]
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=1k", source, SIZE)
    with open_disk(source, writable=True) as disk:
        for number, offset in enumerate(range(0, SIZE - 6000, 5 * 1024)):
            disk.write(offset + 300 * (number % 4), os.urandom(700) + bytes(number % 3 * 900) + b"x")
    if target.startswith("old"):
        qemu_img("create", "-q", "-f", format, copy, SIZE)
        with open_disk(copy, format=format, writable=True) as disk:
            disk.write(0, b"old" * (SIZE // 3))
    new = target.startswith("new")
    convert(source, copy, source_format="qcow2", target_format=format, sparse_size=sparse_size, create_target=new)
    assert_holds(qemu_img, copy, format, source)


@pytest.mark.parametrize(("format", "compress"), [("raw", False), ("qcow2", False), ("qcow2", True)])
def test_the_disk_begins_to_write_while_the_rest_is_read(tmp_path, raw, monkeypatch, format, compress):
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(HostFile, "start_writing", lambda self, offset, length: begun.append((offset, offset + length)))
    convert(raw, tmp_path / "target", target_format=format, compress=compress)
    with open_disk(tmp_path / "target", format=format) as disk:
        held = extents.concat([extents.of_kind(batch, extents.DATA) for batch in disk.extents()])
    assert len(held)
    for _, length, host, _, _ in held.tolist():
        assert any(start <= host and host + length <= max(end, SIZE) for start, end in begun)
