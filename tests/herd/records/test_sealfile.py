from __future__ import annotations

import json
import os
import struct
import zlib

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from cowherd.errors import HostFileError, ImageFormatError
from cowherd.herd.records.block import BLOCK
from cowherd.herd.records.digest import BlockDigests
from cowherd.herd.records.sealfile import read_digests, read_record
from cowherd.herd.records.sealplace import is_sealed, seal_path
from cowherd.herd.records.sealrecord import ChainFile, SealRecord
from cowherd.herd.records.sealwriting import write_seal
from cowherd.storage.identity import FileIdentity
from cowherd.storage.protection import Protection

IDENTITY = FileIdentity(1, 2, 3, 4, 5)
DIGESTS = BlockDigests(10 * BLOCK + 512, np.array([[0, 2], [10, 11]]), np.arange(96, dtype=np.uint8).reshape(3, 32))
RECORD = SealRecord(
    seal_id=bytes(range(16)),
    generation=3,
    content_digest=DIGESTS.content_digest,
    size=DIGESTS.size,
    format="qcow2",
    identity=IDENTITY,
    chain=(ChainFile("/srv/b\udcffse", IDENTITY, bytes(32)), ChainFile("root", IDENTITY, None)),
    level=Protection.IMMUTABLE,
    mode_before=0o644,
    shadow="base.qcow2.shadow",
    created="2026-01-01T00:00:00+00:00",
    made_by="a test",
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "base.qcow2.seal"
    write_seal(path, RECORD, DIGESTS)
    return path


def rewritten(path, **changes) -> None:
    """Replaces fields of the record, and makes every checksum right again."""
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    record = json.loads(data[40 : 40 + length]) | changes
    text = json.dumps(record).encode()
    body = data[:12] + struct.pack("<II", len(text), zlib.crc32(text)) + data[20:40] + text + data[40 + length : -32]
    path.chmod(0o644)
    path.write_bytes(body + blake3(body).digest())


def test_a_seal_reads_back_as_it_was_written(path):
    record, digests = read_digests(path)
    assert record == read_record(path) == RECORD
    assert (digests.size, digests.runs.tolist()) == (DIGESTS.size, DIGESTS.runs.tolist())
    assert (digests.digests == DIGESTS.digests).all()


def test_an_empty_disk_can_be_sealed(tmp_path):
    nothing = BlockDigests(0, np.empty((0, 2), np.int64), np.empty((0, 32), np.uint8))
    record = RECORD._replace(size=0, content_digest=nothing.content_digest)
    write_seal(tmp_path / "s", record, nothing)
    assert read_digests(tmp_path / "s")[0] == record


def test_nobody_has_the_write_bit_of_a_seal(path):
    assert path.stat().st_mode & 0o222 == 0


def test_a_seal_lies_beside_the_file_that_a_link_leads_to(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "base").touch()
    (tmp_path / "link").symlink_to("real/base")
    assert seal_path(tmp_path / "link") == tmp_path / "real" / "base.seal"
    assert not is_sealed(tmp_path / "link")


@given(st.data())
def test_any_flipped_byte_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("seal") / "s"
    write_seal(path, RECORD, DIGESTS)
    damaged = bytearray(path.read_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    path.chmod(0o644)
    path.write_bytes(damaged)
    with pytest.raises(ImageFormatError):
        read_digests(path)


@given(st.integers(0, 700))
def test_a_seal_that_was_cut_short_is_refused(tmp_path_factory, length):
    path = tmp_path_factory.mktemp("seal") / "s"
    write_seal(path, RECORD, DIGESTS)
    os.truncate(path, length)
    with pytest.raises(ImageFormatError):
        read_record(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": -1},
        {"size": 1 << 64},
        {"size": 512},
        {"size": "1"},
        {"generation": True},
        {"block_size": 4096},
        {"content_digest": "00"},
        {"content_digest": "00" * 32},
        {"seal_id": "zz" * 16},
        {"format": None},
        {"level": "SOLID"},
        {"mode_before": 1 << 20},
        {"shadow": "../../etc/passwd"},
        {"chain": [{}]},
        {"chain": "abc"},
        {"chain": [{"name": "x", "file": {}, "content_digest": None}] * 2000},
        {"file": {"device": 1}},
        {"file": None},
    ],
)
def test_a_record_that_makes_no_sense_is_refused(path, changes):
    rewritten(path, **changes)
    with pytest.raises(ImageFormatError, match="the seal can't be used"):
        read_digests(path)


def test_a_record_of_a_million_brackets_is_refused(path):
    text = b"[" * 1_000_000
    path.chmod(0o644)
    path.write_bytes(b"cowseal\n" + struct.pack("<III4xQQ", 1, len(text), zlib.crc32(text), 0, 0) + text + bytes(32))
    with pytest.raises(ImageFormatError):
        read_record(path)


@pytest.mark.parametrize(
    "runs", [[[2, 0], [10, 11]], [[0, 2], [2, 3]], [[0, 1], [10, 12]], [[0, 2], [11, 12]], [[-1, 1], [10, 11]]]
)
def test_runs_that_make_no_sense_are_refused(tmp_path, runs):
    digests = BlockDigests(DIGESTS.size, np.array(runs), DIGESTS.digests)
    write_seal(tmp_path / "s", RECORD._replace(content_digest=digests.content_digest), digests)
    with pytest.raises(ImageFormatError, match="runs"):
        read_digests(tmp_path / "s")


def test_numbers_are_checked_before_anything_is_allocated_for_them(path):
    data = bytearray(path.read_bytes())
    data[24:40] = b"\xff" * 16  # the numbers of runs and of digests
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(ImageFormatError, match="cut short"):
        read_digests(path)


def test_a_newer_version_is_named(path):
    data = bytearray(path.read_bytes())
    data[8] = 9
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(ImageFormatError, match="version 9"):
        read_record(path)


def test_a_seal_that_is_not_there_is_a_host_error(tmp_path):
    with pytest.raises(HostFileError, match="No such file"):
        read_record(tmp_path / "none.seal")


def test_a_record_whose_checksum_is_wrong_is_refused_also_where_only_the_record_is_read(path):
    data = path.read_bytes()
    other = data.replace(b'"generation": 3', b'"generation": 4').replace(b'"generation":3', b'"generation":4')
    assert other != data
    path.chmod(0o644)
    path.write_bytes(other[:-32] + blake3(other[:-32]).digest())
    for read in (read_record, read_digests):
        with pytest.raises(ImageFormatError, match="the checksum of its record is wrong"):
            read(path)
