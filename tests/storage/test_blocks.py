"""What formats are written against: a file of this host and one in memory do the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.errors import ReadOnlyImage
from cowherd.storage.hostfile import HostFile
from tests.memory import MemoryFile

if TYPE_CHECKING:
    from cowherd.storage.blocks import BlockFile

PLACES, LENGTHS = st.integers(0, 20_000), st.integers(0, 9000)
CHANGES = st.one_of(
    st.tuples(st.just("write"), PLACES, st.binary(min_size=1, max_size=5000)),
    st.tuples(st.just("truncate"), PLACES, st.none()),
    st.tuples(st.just("zero"), PLACES, LENGTHS.filter(bool)),
    st.tuples(st.just("preallocate"), PLACES, LENGTHS.filter(bool)),
)


def change(file: BlockFile, kind: str, offset: int, value: bytes | int | None) -> None:
    if isinstance(value, bytes):
        file.pwritev(offset, [value[:7], memoryview(value)[7:]])
    elif value is None:
        file.truncate(offset)
    elif kind == "zero":
        file.write_zeros(offset, value, unmap=True)
    else:
        file.preallocate(offset, value)


def content(file: BlockFile) -> bytes:
    """All of it, put together from what it says to be data; a hole reads as zeros."""
    found = bytearray(file.size())
    for start, end in file.data_ranges(0, file.size()):
        file.gather([(start, memoryview(found)[start:end])])
    assert bytes(found) == file.pread(0, file.size())
    return bytes(found)


@given(st.lists(CHANGES, max_size=8), PLACES, LENGTHS)
def test_a_file_in_memory_does_what_a_file_of_this_host_does(tmp_path_factory, changes, offset, length):
    memory = MemoryFile()
    with HostFile.create(tmp_path_factory.mktemp("host") / "file", lock=None) as host:
        for kind, place, value in changes:
            if kind == "zero":  # past the end the host's file grows where it can't punch holes
                value = max(0, min(value, host.size() - place))
                if not value:
                    continue
            for file in (host, memory):
                change(file, kind, place, value)
            assert host.size() == memory.size()
        assert content(host) == content(memory)
        assert host.pread(offset, length) == memory.pread(offset, length)
        assert host.pread_each([offset, 0], 100) == memory.pread_each([offset, 0], 100)


def test_each_is_known_by_its_own_key(tmp_path: Path):
    first, second = MemoryFile(b"same"), MemoryFile(b"same")
    assert first.key != second.key
    (tmp_path / "file").write_bytes(b"same")
    (tmp_path / "link").hardlink_to(tmp_path / "file")
    with HostFile.open(tmp_path / "file") as one, HostFile.open(tmp_path / "link") as other:
        assert one.key == other.key
        assert one.host is one
        assert not one.closed
    assert one.closed


def test_what_is_read_only_says_so():
    with pytest.raises(ReadOnlyImage):
        MemoryFile(b"x", writable=False).pwrite(0, b"y")
