"""A store in a directory: blobs appear whole and durably under their digests, or not at all."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.stores.directory import KINDS, DirectoryStore
from cowherd.stores.faults import BlobMissing, SumsDamaged
from cowherd.stores.sums import PIECE, Summing

DATA = b"some image" * 1000
DIGEST = blake3(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    store = DirectoryStore("main", str(tmp_path / "store"))
    store.prepare()
    return store


def arrived(store: DirectoryStore, data: bytes = DATA) -> str:
    with store.begin() as incoming:
        incoming.append(data)
        incoming.sync()
    return incoming.name


def add(store: DirectoryStore, data: bytes, *, sums: bool = True) -> str:
    digest = blake3(data).hexdigest()
    store.adopt(arrived(store, data), digest)
    if sums:
        summing = Summing()
        summing.update(data)
        store.write_beside(digest, "sums", summing.finish().encode(digest))
    return digest


def read(store: DirectoryStore, digest: str) -> bytes:
    with os.fdopen(store.open(digest), "rb") as file:
        return file.read()


def alter(path: Path, offset: int, data: bytes) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_store_is_prepared_as_often_as_one_likes(store: DirectoryStore):
    digest = add(store, DATA)
    store.prepare()
    assert sorted(os.listdir(store.directory)) == ["blobs", "incoming", "locks"]
    assert read(store, digest) == DATA


def test_an_adopted_file_is_a_read_only_blob_under_its_digest(store: DirectoryStore):
    assert store.adopt(arrived(store), DIGEST)
    assert store.path(DIGEST) == store.directory / "blobs" / DIGEST[:2] / DIGEST[2:]
    assert store.path(DIGEST).stat().st_mode & 0o777 == 0o440
    assert (read(store, DIGEST), store.size(DIGEST)) == (DATA, len(DATA))
    assert store.incoming() == []


def test_bytes_and_names_are_durable_in_this_order(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch):
    steps = []
    fsync, rename = os.fsync, os.rename
    name = arrived(store)
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name), fsync(fd)))
    monkeypatch.setattr(os, "rename", lambda old, new: (steps.append("rename"), rename(old, new)))
    store.adopt(name, DIGEST)
    assert steps == ["blobs", name, "rename", DIGEST[:2], "incoming"]


def test_the_same_bytes_twice_are_one_file(store: DirectoryStore):
    store.adopt(arrived(store), DIGEST)
    inode = store.path(DIGEST).stat().st_ino
    second = arrived(store)
    assert not store.adopt(second, DIGEST)
    assert store.path(DIGEST).stat().st_ino == inode
    assert [one.name for one in store.incoming()] == [second]  # for the caller, who may need it once more


def test_a_blob_cut_short_is_replaced_by_the_same_bytes_and_one_known_as_damaged_if_so_asked(store: DirectoryStore):
    store.adopt(arrived(store), DIGEST)
    os.truncate(store.path(DIGEST), 5)
    assert store.adopt(arrived(store), DIGEST)
    assert read(store, DIGEST) == DATA
    alter(store.path(DIGEST), 3, b"!")
    assert store.adopt(arrived(store), DIGEST, replaces=True)
    assert read(store, DIGEST) == DATA


@pytest.mark.parametrize("step", ["mkdir", "fchmod", "fsync", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failure_while_adopting_leaves_no_part_of_a_blob(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, step: str, code: int
):
    name = arrived(store)

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(HostFileError) as caught:
            store.adopt(name, DIGEST)
    assert caught.value.errno == code
    assert list(store.digests()) == []
    assert store.adopt(name, DIGEST)


def test_a_blob_that_is_not_there_is_missing(store: DirectoryStore):
    for use in (store.open, store.size, store.verify):
        with pytest.raises(BlobMissing, match=DIGEST) as caught:
            use(DIGEST)
        assert (caught.value.store, caught.value.digest) == ("main", DIGEST)


@pytest.mark.parametrize("digest", ["", "..", DIGEST[:-1], DIGEST.upper(), DIGEST + "\n", "../../" + DIGEST[6:]])
def test_what_is_no_digest_leads_nowhere(store: DirectoryStore, digest: str):
    with pytest.raises(InvalidRequest):
        store.path(digest)


def test_digests_are_listed_in_order_without_what_lies_beside_them(store: DirectoryStore):
    digests = [add(store, bytes([number]) * 10) for number in range(20)]
    (store.directory / "blobs" / "lost+found").mkdir()
    (store.directory / "blobs" / digests[0][:2] / "a stranger").touch()
    assert list(store.digests()) == sorted(digests)


def test_what_lies_beside_a_blob_is_replaced_whole_and_goes_with_it(store: DirectoryStore):
    digest = add(store, DATA)
    assert store.read_beside(digest, "about") is None
    for kind in KINDS:
        store.write_beside(digest, kind, b"first " + kind.encode())
        store.write_beside(digest, kind, kind.encode())
        assert store.read_beside(digest, kind) == kind.encode()
    store.remove(digest)
    assert list((store.directory / "blobs").rglob("*")) == [store.path(digest).parent]
    store.remove(digest)
    store.remove(blake3(b"never there").hexdigest())


def test_a_removal_that_fails_leaves_a_blob_that_can_be_found(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch):
    digest = add(store, DATA)
    unlink = os.unlink

    def fails_for_sums(path: Path) -> None:
        if str(path).endswith("sums"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fails_for_sums)
        with pytest.raises(HostFileError, match="delete"):
            store.remove(digest)
    assert list(store.digests()) == [digest]
    store.remove(digest)
    assert list(store.digests()) == []


def test_a_blob_that_is_read_outlives_its_removal(store: DirectoryStore):
    digest = add(store, DATA)
    with os.fdopen(store.open(digest), "rb") as file:
        store.remove(digest)
        assert file.read() == DATA


def test_one_at_a_time_holds_the_lock_of_a_blob(store: DirectoryStore):
    inside, entered = threading.Event(), threading.Event()

    def enter() -> None:
        inside.wait(30)
        with DirectoryStore("again", str(store.directory)).locked(DIGEST):
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    with store.locked(DIGEST):
        inside.set()
        assert not entered.wait(0.2)
    assert entered.wait(30)
    thread.join()


def test_a_child_forked_meanwhile_does_not_keep_the_lock(store: DirectoryStore):
    begun, end = os.pipe(), os.pipe()
    with store.locked(DIGEST):
        child = os.fork()
        if not child:
            os.write(begun[1], b"x")
            os.read(end[0], 1)
            os._exit(0)
        os.read(begun[0], 1)
    with store.locked(DIGEST):
        pass
    os.write(end[1], b"x")
    assert os.waitpid(child, 0)[1] == 0
    for fd in (*begun, *end):
        os.close(fd)


def test_the_free_space_is_that_of_the_file_system(store: DirectoryStore):
    found = os.statvfs(store.directory)
    assert abs(store.free_bytes() - found.f_bavail * found.f_frsize) < 1 << 30


BLOB = b"".join(bytes([number]) * PIECE for number in range(1, 6)) + bytes(PIECE) + b"end"


def test_a_whole_blob_has_no_damage(store: DirectoryStore):
    digest = add(store, BLOB)
    reports: list[tuple[int, int]] = []
    assert store.verify(digest, progress=lambda done, total: reports.append((done, total))) == ()
    assert [done for done, _ in reports] == [*range(PIECE, 7 * PIECE, PIECE), len(BLOB)]
    assert {total for _, total in reports} == {len(BLOB)}


@pytest.mark.parametrize("offset", [PIECE, 2 * PIECE - 1, 5 * PIECE + 100])
def test_a_changed_byte_is_located_also_where_there_was_a_hole(store: DirectoryStore, offset: int):
    digest = add(store, BLOB)
    alter(store.path(digest), offset, b"?")
    begin = offset // PIECE * PIECE
    assert store.verify(digest) == ((begin, begin + PIECE),)


def test_neighbouring_damage_is_one_range_and_other_damage_another(store: DirectoryStore):
    digest = add(store, BLOB)
    for piece in (0, 1, 3):
        alter(store.path(digest), piece * PIECE + 7, b"?")
    assert store.verify(digest) == ((0, 2 * PIECE), (3 * PIECE, 4 * PIECE))


def test_only_the_pieces_that_a_range_touches_are_read(store: DirectoryStore):
    digest = add(store, BLOB)
    for piece in (1, 3):
        alter(store.path(digest), piece * PIECE, b"?")
    assert store.verify(digest, start=PIECE + 5, end=PIECE + 6) == ((PIECE, 2 * PIECE),)
    assert store.verify(digest, start=2 * PIECE, end=3 * PIECE) == ()
    assert store.verify(digest, start=2 * PIECE) == ((3 * PIECE, 4 * PIECE),)


def test_what_is_cut_off_or_too_much_at_the_end_is_damage_even_zeros(store: DirectoryStore):
    digest = add(store, BLOB)
    os.truncate(store.path(digest), 5 * PIECE)
    assert store.verify(digest) == ((5 * PIECE, len(BLOB)),)
    os.truncate(store.path(digest), len(BLOB) + 10)
    assert store.verify(digest) == ((6 * PIECE, len(BLOB) + 10),)
    zeros = add(store, bytes(PIECE))
    os.truncate(store.path(zeros), PIECE - 1)
    assert store.verify(zeros) == ((0, PIECE),)


@pytest.mark.parametrize("sums", [None, b"no sums"])
def test_without_usable_sums_the_name_decides(store: DirectoryStore, sums: bytes | None):
    digest = add(store, BLOB, sums=False)
    if sums is not None:
        store.write_beside(digest, "sums", sums)
        with pytest.raises(SumsDamaged):
            store.sums(digest)
    assert store.verify(digest) == ()
    alter(store.path(digest), 2 * PIECE, b"?")
    assert store.verify(digest) == ((0, len(BLOB)),)


@pytest.mark.parametrize("sums", [True, False])
def test_what_the_disk_cannot_read_is_damage(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, sums: bool):
    digest = add(store, BLOB, sums=sums)
    preadv = os.preadv

    def bad_sector(fd: int, buffers: list[memoryview], offset: int) -> int:
        if offset == 3 * PIECE:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", bad_sector)
    assert store.verify(digest) == (((3 * PIECE, 4 * PIECE),) if sums else ((0, len(BLOB)),))


def test_verifying_keeps_to_a_rate_that_counts_what_is_read(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch):
    digest = add(store, BLOB)
    now = [0.0]
    monkeypatch.setattr("cowherd.stores.checking.time.monotonic", lambda: now[0])
    monkeypatch.setattr("cowherd.stores.checking.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    assert store.verify(digest, rate=PIECE / 2) == ()
    assert now[0] == pytest.approx(2 * (5 + 3 / PIECE))  # one of its MiB is a hole


def test_verifying_ends_when_the_caller_has_had_enough(store: DirectoryStore):
    digest = add(store, BLOB)

    class Enough(Exception):
        pass

    def stop(done: int, _: int) -> None:
        if done >= 2 * PIECE:
            raise Enough

    with pytest.raises(Enough):
        store.verify(digest, progress=stop)


def test_the_fill_is_that_of_the_file_system(store: DirectoryStore):
    assert 0 < store.fill() < 1


def test_a_file_tells_how_much_of_it_has_arrived(store: DirectoryStore):
    with store.begin() as incoming:
        incoming.append(DATA)
        found = store.arrived(incoming.name)
        assert found == next(one for one in store.incoming() if one.name == incoming.name)
        assert found.size == len(DATA)
        store.discard(incoming.name)
        assert store.arrived(incoming.name) is None


def test_a_blob_takes_no_room_for_its_holes(store: DirectoryStore):
    digest = add(store, bytes(4 * PIECE) + DATA)
    assert len(DATA) <= store.allocated(digest) < PIECE
    with pytest.raises(BlobMissing):
        store.allocated("0" * 64)


def test_a_linked_file_becomes_a_blob_and_keeps_its_first_name(store: DirectoryStore, tmp_path: Path):
    (tmp_path / "theirs").write_bytes(DATA)
    before = (tmp_path / "theirs").stat()
    with store.begin_linked(tmp_path / "theirs") as incoming:
        assert incoming.offset == len(DATA)
        incoming.sync()
        assert (tmp_path / "theirs").stat().st_mtime_ns == before.st_mtime_ns
        store.adopt(incoming.name, DIGEST)
    assert store.path(DIGEST).samefile(tmp_path / "theirs")
    store.remove(DIGEST)
    assert (tmp_path / "theirs").read_bytes() == DATA


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_what_can_not_be_linked_is_no_error(store: DirectoryStore, tmp_path: Path, monkeypatch, number):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "theirs").write_bytes(DATA)
    monkeypatch.setattr(os, "link", refuse)
    assert store.begin_linked(tmp_path / "theirs") is None


def test_what_is_another_users_or_no_file_is_not_linked(store: DirectoryStore, tmp_path: Path, monkeypatch):
    (tmp_path / "theirs").write_bytes(DATA)
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    assert store.begin_linked(tmp_path / "link") is None
    assert store.begin_linked(tmp_path / "nothing") is None
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / "theirs").stat().st_uid + 1)
    assert store.begin_linked(tmp_path / "theirs") is None
    assert store.incoming() == []
