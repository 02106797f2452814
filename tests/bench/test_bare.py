from __future__ import annotations

import os
import subprocess

import pytest

from bench.bare import Bare, bare_commands, file_data, guest_data
from bench.inputs import tool
from bench.places import EXT4_COLD, EXT4_WARM, TMPFS, XFS

PIECE = 64 << 10


@pytest.fixture
def sparse(tmp_path):
    """A MiB with data in its second and its last 64 KiB."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 20)
        os.pwrite(file.fileno(), b"a" * PIECE, PIECE)
        os.pwrite(file.fileno(), b"b" * PIECE, (1 << 20) - PIECE)
    return path


def takes_direct(folder):
    try:
        os.close(os.open(folder / "direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT))
    except OSError:
        return False
    return True


def move(way, bare, out):
    place = {"direct": EXT4_COLD, "direct writes": EXT4_COLD, "buffered": EXT4_COLD, "kernel": TMPFS}[way]
    [command] = [command for command in bare_commands(bare, place, out) if command.label == way]
    if way.startswith("direct") and not takes_direct(out):
        pytest.skip("the file system knows no O_DIRECT")
    subprocess.run(command.words, check=True)
    return out / "bare"


@pytest.mark.parametrize("way", ["direct", "direct writes", "buffered", "kernel"])
def test_the_data_of_a_file_is_moved_and_its_holes_are_not(way, sparse, tmp_path):
    made = move(way, Bare((sparse,), 2 * PIECE, 2 * PIECE), tmp_path)
    assert made.read_bytes() == b"a" * PIECE + b"b" * PIECE


@pytest.mark.parametrize("way", ["direct", "buffered", "kernel"])
def test_several_files_are_read_in_turn_up_to_the_bytes_that_are_asked_for(way, sparse, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"c" * PIECE)
    made = move(way, Bare((other, sparse), 2 * PIECE, 2 * PIECE), tmp_path)
    assert made.read_bytes() == b"c" * PIECE + b"a" * PIECE


@pytest.mark.parametrize("way", ["direct", "buffered"])
def test_more_or_less_may_be_written_than_is_read(way, sparse, tmp_path):
    assert move(way, Bare((sparse,), 2 * PIECE, 5 * PIECE), tmp_path).stat().st_size == 5 * PIECE
    assert move(way, Bare((sparse,), 2 * PIECE, PIECE), tmp_path).read_bytes() == b"a" * PIECE


def test_what_only_reads_leaves_no_file(sparse, tmp_path):
    assert not move("buffered", Bare((sparse,), 2 * PIECE), tmp_path).exists()


def test_where_clusters_can_be_shared_there_is_no_limit(sparse, tmp_path):
    ways = {
        place: [each.label for each in bare_commands(Bare((sparse,), 1, 1), place, tmp_path)] for place in (TMPFS, XFS, EXT4_WARM)
    }
    assert ways == {TMPFS: ["kernel"], XFS: [], EXT4_WARM: ["direct", "direct writes", "buffered"]}


@pytest.mark.qemu
def test_the_bytes_of_a_job_are_those_that_the_guest_sees(sparse, tmp_path):
    packed = tmp_path / "packed.qcow2"
    tool("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", sparse, packed)
    assert guest_data(sparse, "raw") == guest_data(packed, "qcow2") == 2 * PIECE
    assert 0 < file_data(packed) <= packed.stat().st_size + PIECE
