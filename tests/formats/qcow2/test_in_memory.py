"""qcow2 images of which every write is looked at, in memory: nobody waits for a disk."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.formats.qcow2.check import check
from cowherd.formats.qcow2.create import new_header, write_empty
from cowherd.formats.qcow2.header import read_header
from cowherd.formats.qcow2.image import Qcow2
from cowherd.formats.qcow2.report import CheckReport
from cowherd.image.disk import Disk
from cowherd.storage.hostfile import Buffer
from tests.images import KIB, Features, Request, run_in_cowherd
from tests.memory import MemoryFile

TABLE = (Features(512), Features(512, refcount_bits=1), Features(512, version=2), Features(16 * KIB, extended_l2=True))


class Recorded(MemoryFile):
    """Keeps what it held after each write: what a process that is killed there leaves behind."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[bytes] = []

    def pwritev(self, offset: int, buffers: list[Buffer]) -> None:
        super().pwritev(offset, buffers)
        self.states.append(bytes(self.content))


def new_disk(features: Features, size: int, file: MemoryFile) -> Disk:
    write_empty(file, new_header(size, features.chosen))
    return Disk([Qcow2(file)], writable=True)


def checked(content: bytes) -> CheckReport:
    file = MemoryFile(content, writable=False)
    return check(file, read_header(file))


@st.composite
def works(draw: st.DrawFn) -> tuple[Features, int, list[Request]]:
    """Features, a size, and requests inside of it."""
    features = draw(st.sampled_from(TABLE))
    unit = features.cluster_size
    size = draw(st.integers(1, 80)) * unit
    requests = []
    for _ in range(draw(st.integers(1, 8))):
        offset = draw(st.integers(0, size - 1))
        length = draw(st.integers(1, min(size - offset, 6 * unit)))
        request = Request(draw(st.sampled_from(("write", "compressed", "zero", "unmap", "discard", "flush"))), offset, length, 3)
        if request.kind == "compressed":
            start = offset // unit * unit
            request = replace(request, offset=start, length=min(unit, size - start))
        requests.append(request)
    return features, size, requests


def shown(size: int, requests: list[Request], unit: int) -> bytes:
    """What a guest must see after `requests`."""
    disk = bytearray(size)
    for request in requests:
        start, end = request.offset, request.end
        if request.kind in ("write", "compressed"):
            disk[start:end] = request.data
        elif request.kind == "discard":
            start, end = -(-start // unit) * unit, end if end == size else end // unit * unit
            disk[start:end] = bytes(max(0, end - start))
        elif request.kind != "flush":
            disk[start:end] = bytes(end - start)
    return bytes(disk)


@given(works())
def test_what_was_written_is_read_also_after_it_was_closed(work: tuple[Features, int, list[Request]]):
    features, size, requests = work
    file = MemoryFile()
    with new_disk(features, size, file) as disk:
        run_in_cowherd(disk, requests)
        assert disk.read(0, size) == shown(size, requests, features.cluster_size)
    assert file.closed
    assert file.flushes
    report = checked(bytes(file.content))
    assert (report.corruptions, report.check_errors, report.leaks) == (0, 0, 0)
    with Disk([Qcow2(MemoryFile(bytes(file.content), writable=False))], writable=False) as disk:
        assert disk.read(0, size) == shown(size, requests, features.cluster_size)


@given(works())
def test_an_image_that_is_killed_between_two_writes_leaks_at_worst(work: tuple[Features, int, list[Request]]):
    features, size, requests = work
    file = Recorded()
    with new_disk(features, size, file) as disk:
        file.states.clear()  # before its header is there, a file is no image
        run_in_cowherd(disk, requests)
    for state in file.states:
        report = checked(state)
        assert (report.corruptions, report.check_errors) == (0, 0), report.messages


@pytest.mark.parametrize("features", TABLE, ids=str)
def test_an_image_is_read_from_what_is_no_file_of_this_host(features: Features):
    file = MemoryFile()
    with new_disk(features, 10 * features.cluster_size, file) as disk:
        disk.write(features.cluster_size, b"x" * 1000)
        with pytest.raises(Exception, match="memory is no file of this host"):
            _ = disk.path
        assert disk.name == "memory"
