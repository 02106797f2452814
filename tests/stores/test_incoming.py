"""What arrives in a store: appended, with holes for zeros, and resumed after an interruption."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.storage.hostfile import HostFile
from cowherd.stores.directory import DirectoryStore
from cowherd.stores.faults import StillArriving
from cowherd.stores.incoming import PAGE
from tests.storage.hosts import reflink_file_system

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    store = DirectoryStore("main", str(tmp_path / "store"))
    store.prepare()
    return store


def stored(store: DirectoryStore, *blocks: bytes) -> Path:
    with store.begin() as incoming:
        for block in blocks:
            incoming.append(block)
        incoming.sync()
    return store.arriving(incoming.name)


def test_what_is_appended_is_stored_in_order(store: DirectoryStore):
    path = stored(store, b"ab" * PAGE, bytearray(b"c"), memoryview(b"d" * 10))
    assert path.read_bytes() == b"ab" * PAGE + b"c" + b"d" * 10


Blocks = st.lists(st.tuples(st.sampled_from([b"\0", b"x"]), st.integers(0, 3 * PAGE)), max_size=8)


@given(Blocks)
def test_any_mixture_of_zeros_and_data_reads_back(tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[bytes, int]]):
    store = DirectoryStore("main", str(tmp_path_factory.mktemp("store")))
    store.prepare()
    blocks = [byte * length for byte, length in parts]
    assert stored(store, *blocks).read_bytes() == b"".join(blocks)


def test_zeros_take_no_space_and_the_rest_takes_its_pages(store: DirectoryStore):
    page = b"x" * PAGE
    path = stored(store, bytes(MIB), page + bytes(MIB - 2 * PAGE) + page, bytes(MIB), page, bytes(MIB - PAGE))
    info = path.stat()
    assert info.st_size == 4 * MIB
    assert info.st_blocks * 512 == 3 * PAGE


def test_pages_are_those_of_the_file_whatever_the_lengths_that_arrive(store: DirectoryStore):
    path = stored(store, b"x" * 100, bytes(10 * PAGE), b"y")
    assert path.read_bytes() == b"x" * 100 + bytes(10 * PAGE) + b"y"
    assert path.stat().st_blocks * 512 == 2 * PAGE


def test_it_is_resumed_at_its_end_also_behind_zeros(store: DirectoryStore):
    path = stored(store, b"abc", bytes(PAGE))
    with store.resume(path.name) as incoming:
        assert incoming.offset == 3 + PAGE
        incoming.append(b"d")
        incoming.sync()
    assert path.read_bytes() == b"abc" + bytes(PAGE) + b"d"


def test_resumed_at_an_offset_it_forgets_what_lay_behind(store: DirectoryStore):
    path = stored(store, b"abcdef")
    with store.resume(path.name, 2) as incoming:
        incoming.append(bytes(2) + b"z")
        incoming.sync()
    assert path.read_bytes() == b"ab\0\0z"


def test_it_is_not_resumed_behind_its_end(store: DirectoryStore):
    path = stored(store, b"abc")
    with pytest.raises(InvalidRequest, match="4 bytes are to have arrived, and the store has 3"):
        store.resume(path.name, 4)


@pytest.mark.parametrize("name", ["", "..", "../blobs/ab/cd", "a" * 31, "A" * 32, "a" * 32 + "\n"])
def test_a_name_that_no_temporary_file_has_leads_nowhere(store: DirectoryStore, name: str):
    for use in (store.resume, store.discard, store.arriving):
        with pytest.raises(InvalidRequest):
            use(name)


def test_only_the_service_may_read_what_is_arriving(store: DirectoryStore):
    path = stored(store, b"abc")
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_arrives_is_listed_and_can_be_discarded_twice(store: DirectoryStore):
    path = stored(store, b"abc")
    ((name, size, mtime),) = store.incoming()
    assert (name, size) == (path.name, 3)
    assert mtime == path.stat().st_mtime
    store.discard(name)
    store.discard(name)
    assert store.incoming() == []


def test_a_full_disk_is_an_error_and_keeps_what_came_before(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch):
    with store.begin() as incoming:
        incoming.append(b"a" * PAGE)

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", full)
            with pytest.raises(HostFileError, match="No space left"):
                incoming.append(b"b" * PAGE)
        assert incoming.offset == PAGE
        incoming.append(b"c")
        incoming.sync()
    assert store.arriving(incoming.name).read_bytes() == b"a" * PAGE + b"c"


def test_the_name_of_what_was_synced_is_durable(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    path = stored(store, b"abc")
    assert synced == [str(path), str(path.parent)]


def test_one_at_a_time_appends_and_others_can_tell(store: DirectoryStore):
    with store.begin() as incoming:
        assert store.is_held(incoming.name)
        with pytest.raises(StillArriving, match=incoming.name):
            store.resume(incoming.name)
        incoming.append(b"abc")
        incoming.sync()
    assert not store.is_held(incoming.name)
    with store.resume(incoming.name) as again:
        assert store.is_held(incoming.name)
        assert again.offset == 3
    store.discard(incoming.name)
    assert not store.is_held(incoming.name)


def test_a_process_that_dies_holds_nothing_any_more(store: DirectoryStore):
    said = os.pipe()
    child = os.fork()
    if not child:
        os.write(said[1], store.begin().name.encode())
        os.kill(os.getpid(), signal.SIGKILL)
    name = os.read(said[0], 32).decode()
    os.waitpid(child, 0)
    for fd in said:
        os.close(fd)
    assert not store.is_held(name)
    store.resume(name).close()


def test_a_file_whose_blocks_are_shared_has_arrived_whole(tmp_path: Path):
    with reflink_file_system(tmp_path) as place:
        store = DirectoryStore("main", str(place / "store"))
        store.prepare()
        (place / "source").write_bytes(b"shared" * MIB)
        with HostFile.open(place / "source", lock=None) as source, store.begin() as incoming:
            assert incoming.share(source)
            assert incoming.offset == 6 * MIB
            incoming.sync()
        assert store.arriving(incoming.name).read_bytes() == b"shared" * MIB


def test_where_blocks_can_not_be_shared_nothing_has_arrived(store: DirectoryStore, tmp_path: Path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    (tmp_path / "source").write_bytes(b"source")
    with HostFile.open(tmp_path / "source", lock=None) as source, store.begin() as incoming:
        assert not incoming.share(source)
        assert incoming.offset == 0
        assert store.arriving(incoming.name).stat().st_size == 0
