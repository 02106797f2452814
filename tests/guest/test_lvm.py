"""LVM2 as its own tools write it: which bytes of a disk a logical volume is made of, and what is not read."""

from __future__ import annotations

import hashlib
import mmap
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd import extents
from cowherd.guest.lvm import read_volumes
from cowherd.guest.lvm.physical import checksum, read_physical
from cowherd.guest.lvm.text import parse
from cowherd.guest.source import Cached, Malformed, Volume
from cowherd.guest.survey import survey
from tests.guest import truth
from tests.guest.lvm import lvm_on

MIB = 1 << 20


def disk_of(data: bytes) -> Cached:
    return Cached(lambda offset, length: data[offset : offset + length], len(data))


def mapped(path):
    """A file's content, of which only what is looked at is read."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def sized(path, size):
    with path.open("wb") as file:
        file.truncate(size)
    return path


def copy_of(data):
    """Returns where in its area the metadata begin, and their length."""
    return int.from_bytes(data[0x1028:0x1030], "little"), int.from_bytes(data[0x1030:0x1038], "little")


def put_file_system(raw, pieces, scratch):
    """Makes an ext4 file system on a volume that consists of (byte of the disk, length) pieces; returns its content."""
    folder = scratch / "files"
    folder.mkdir()
    truth.fill(folder, 1, 30)
    volume = sized(scratch / "volume", sum(length for _, length in pieces))
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-b", "1024", "-d", folder, volume], check=True, capture_output=True)
    data = volume.read_bytes()
    with raw.open("r+b") as file:
        done = 0
        for start, length in pieces:
            file.seek(start)
            file.write(data[done : done + length])
            done += length
    return {path: digest for path, digest in truth.listing(folder).items() if not path.endswith("/")}


def content_of(data, entry):
    content = bytearray(entry.size)
    for offset, start, length in entry.runs.tolist():
        content[offset : offset + length] = data[start : start + length]
    return hashlib.sha256(content).hexdigest()


def assert_files(chart, data, place, expected):
    (system,) = [system for system in chart.systems if system.place == place]
    assert system.contradictions == ()
    files = {path: content_of(data, entry) for path, entry in system.files.items() if entry.kind == "file"}
    assert files == expected
    return system


def assert_everything_is_charted_once(chart, size):
    parts = [*(system.span for system in chart.systems), chart.tables, *(part.span for part in chart.uncharted)]
    assert extents.normalised(np.concatenate(parts)).tolist() == [[0, size]]
    assert sum(extents.total(part) for part in parts) == size


@pytest.fixture
def raw(tmp_path):
    return sized(tmp_path / "raw", 128 * MIB)


def test_a_volume_in_two_segments_is_read_where_lvm_says_that_it_lies(raw, tmp_path):
    with lvm_on(raw) as lvm:
        lvm("vgcreate", "vg", *lvm.devices)
        lvm.create("root", "-L", "24M")
        lvm.create("other", "-L", "8M")
        lvm("lvextend", "-L", "+16M", "vg/root")
        pieces = lvm.segments("root")
    assert len(pieces) == 2
    expected = put_file_system(raw, pieces, tmp_path)
    chart = survey(disk_of(data := mapped(raw)))
    system = assert_files(chart, data, "logical volume vg/root", expected)
    assert system.span.tolist() == sorted([start, start + length] for start, length in pieces)
    assert_everything_is_charted_once(chart, len(data))
    assert [part.reason for part in chart.uncharted if not part.idle] == ["it holds no file system that is known here"]


PARTS = [(MIB, 48 * MIB), (50 * MIB, 48 * MIB)]


@pytest.fixture
def partitioned(raw):
    """A disk with two partitions."""
    truth.require("sfdisk")
    script = "label: gpt\n" + "".join(f"start={start // 512}, size={length // 512}\n" for start, length in PARTS)
    subprocess.run(["sfdisk", "-q", raw], input=script, text=True, check=True, capture_output=True)
    return raw


def test_physical_volumes_in_two_partitions_make_one_striped_volume(partitioned, tmp_path):
    with lvm_on(partitioned, *PARTS) as lvm:
        lvm("vgcreate", "-s", "1M", "vg", *lvm.devices)
        lvm.create("wide", "-i", "2", "-I", "64k", "-L", "40M")
        places = [lvm.extents_at(device) for device in lvm.devices]
    expected = put_file_system(partitioned, [(places[n % 2] + n // 2 * 65536, 65536) for n in range(640)], tmp_path)
    chart = survey(disk_of(data := mapped(partitioned)))
    assert_files(chart, data, "logical volume vg/wide", expected)
    assert_everything_is_charted_once(chart, len(data))


@pytest.mark.parametrize("stale", [0, 1])
def test_the_newest_metadata_are_believed(partitioned, stale):
    start = PARTS[stale][0]
    with lvm_on(partitioned, *PARTS) as lvm:
        lvm("vgcreate", "vg", *lvm.devices)
        old = mapped(partitioned)[start : start + MIB]
        lvm.create("root", "-L", "8M")
        pieces = lvm.segments("root")
    with partitioned.open("r+b") as file:
        file.seek(start)
        file.write(old)
    disk = disk_of(mapped(partitioned))
    volumes, _ = read_volumes(disk, [Volume(disk, f"partition {number}", [part]) for number, part in enumerate(PARTS, 1)])
    assert [volume.span.tolist() for volume in volumes] == [[[at, at + length] for at, length in pieces]]


def test_a_volume_that_partly_lies_on_another_disk_is_not_read(partitioned):
    with lvm_on(partitioned, *PARTS) as lvm:
        lvm("vgcreate", "vg", *lvm.devices)
        lvm.create("both", "-L", "60M")
        lvm.create("here", "-L", "8M")
    data = mapped(partitioned)[: PARTS[1][0]]  # the first physical volume alone
    only = bytearray(data)
    only[: PARTS[0][0]] = bytes(PARTS[0][0])
    volume = Volume(disk_of(bytes(only)), "partition 1", PARTS[:1])
    volumes, chart = read_volumes(volume.disk, [volume])
    assert volumes == []
    reasons = {part.place: part.reason for part in chart.uncharted}
    assert reasons["logical volume vg/both"] == "a part of it lies on another disk"


@pytest.mark.parametrize("sector", [0, 2, 3])
def test_a_label_in_another_sector_and_a_second_copy_of_the_metadata_are_found(raw, tmp_path, sector):
    with lvm_on(raw) as lvm:
        lvm("pvcreate", "--labelsector", sector, "--metadatacopies", "2", *lvm.devices)
        lvm("vgcreate", "vg", *lvm.devices)
        lvm.create("root", "-L", "24M")
        pieces = lvm.segments("root")
    expected = put_file_system(raw, pieces, tmp_path)
    chart = survey(disk_of(data := mapped(raw)))
    assert_files(chart, data, "logical volume vg/root", expected)
    assert chart.tables[-1, 1] > 127 * MIB


def test_metadata_that_have_gone_once_around_their_area_are_read(raw):
    starts = []
    with lvm_on(raw) as lvm:
        lvm("pvcreate", "--metadatasize", "16k", "--dataalignment", "64k", *lvm.devices)
        lvm("vgcreate", "vg", *lvm.devices)
        for number in range(14):
            lvm("vgchange", "--addtag", f"tag{number}{'x' * 900}", "vg")
            starts.append(copy_of(mapped(raw))[0])
        lvm.create("last", "-L", "8M")
        pieces = lvm.segments("last")
        sequence = int(lvm("vgs", "--noheadings", "-o", "seqno", "vg"))
    assert starts != sorted(starts)
    volume = Volume(disk_of(mapped(raw)), "the whole disk", [(0, raw.stat().st_size)])
    assert [group.sequence for group in read_physical(volume).groups] == [sequence]
    (last,), _ = read_volumes(volume.disk, [volume])
    assert last.span.tolist() == [[start, start + length] for start, length in pieces]


def test_a_disk_that_no_volume_group_uses_is_idle(raw):
    with lvm_on(raw) as lvm:
        lvm("pvcreate", *lvm.devices)
    chart = survey(disk_of(mapped(raw)))
    assert [(part.idle, part.reason) for part in chart.uncharted] == [
        (True, "it is an LVM physical volume that no volume group uses")
    ]
    assert_everything_is_charted_once(chart, 128 * MIB)


THIN = """
pool {{ id = "{ids[0]}" status = ["READ", "WRITE", "VISIBLE"] flags = [] segment_count = 1
 segment1 {{ start_extent = 0 extent_count = 2 type = "thin-pool" metadata = "pool_tmeta" pool = "pool_tdata"
 transaction_id = 1 chunk_size = 128 discards = "passdown" zero_new_blocks = 1 }} }}
thin {{ id = "{ids[1]}" status = ["READ", "WRITE", "VISIBLE"] flags = [] segment_count = 1
 segment1 {{ start_extent = 0 extent_count = 9 type = "thin" thin_pool = "pool" transaction_id = 0 device_id = 1 }} }}
pool_tmeta {{ id = "{ids[2]}" status = ["READ", "WRITE"] flags = [] segment_count = 1
 segment1 {{ start_extent = 0 extent_count = 1 type = "striped" stripe_count = 1 stripes = ["pv0", 10] }} }}
pool_tdata {{ id = "{ids[3]}" status = ["READ", "WRITE"] flags = [] segment_count = 1
 segment1 {{ start_extent = 0 extent_count = 2 type = "striped" stripe_count = 1 stripes = ["pv0", 11] }} }}
"""
SNAPSHOT = """
cow {{ id = "{ids[0]}" status = ["READ", "WRITE", "VISIBLE"] flags = [] segment_count = 1
 segment1 {{ start_extent = 0 extent_count = 2 type = "striped" stripe_count = 1 stripes = ["pv0", 10] }} }}
snapshot0 {{ id = "{ids[1]}" status = ["READ", "WRITE"] flags = [] segment_count = 1
 segment1 {{ start_extent = 0 extent_count = 6 type = "snapshot" chunk_size = 8 origin = "root" cow_store = "cow" }} }}
"""
MIRROR = """
old {{ id = "{ids[0]}" status = ["READ", "WRITE", "VISIBLE"] flags = [] segment_count = 1
 segment1 {{ start_extent = 0 extent_count = 2 type = "mirror" mirror_count = 2 mirror_log = "log" region_size = 1024
 mirrors = ["one", 0, "two", 0] }} }}
one {{ id = "{ids[1]}" status = ["READ", "WRITE"] flags = [] segment_count = 1
 segment1 {{ start_extent = 0 extent_count = 2 type = "striped" stripe_count = 1 stripes = ["pv0", 10] }} }}
two {{ id = "{ids[2]}" status = ["READ", "WRITE"] flags = [] segment_count = 1
 segment1 {{ start_extent = 0 extent_count = 2 type = "striped" stripe_count = 1 stripes = ["pv0", 12] }} }}
log {{ id = "{ids[3]}" status = ["READ", "WRITE"] flags = [] segment_count = 1
 segment1 {{ start_extent = 0 extent_count = 1 type = "striped" stripe_count = 1 stripes = ["pv0", 14] }} }}
"""


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (THIN, {"pool_tmeta": "thin-pool", "pool_tdata": "thin-pool"}),
        (SNAPSHOT, {"cow": "snapshot"}),
        (MIRROR, {"one": "mirror", "two": "mirror", "log": "mirror"}),
    ],
    ids=["thin", "snapshot", "mirror"],
)
def test_what_does_not_lie_plainly_on_the_disk_is_named_and_not_read(raw, tmp_path, text, parts):
    ids = [f"AAAAAA-BBBB-CCCC-DDDD-EEEE-FFFF-GGGG{number}" for number in range(10, 14)]
    with lvm_on(raw) as lvm:
        lvm("vgcreate", "vg", *lvm.devices)
        lvm.create("root", "-L", "24M")
        lvm("vgcfgbackup", "-f", tmp_path / "saved", "vg")
        saved = (tmp_path / "saved").read_text()
        head, tail = saved.split("logical_volumes {", 1)
        (tmp_path / "changed").write_text(head + "logical_volumes {" + text.format(ids=ids) + tail)
        lvm("vgcfgrestore", "--force", "-y", "-f", tmp_path / "changed", "vg")
        pieces = lvm.segments("root")
        extents_at = lvm.extents_at(lvm.devices[0])
    expected = put_file_system(raw, pieces, tmp_path)
    chart = survey(disk_of(data := mapped(raw)))
    assert_files(chart, data, "logical volume vg/root", expected)
    reasons = {part.place: part for part in chart.uncharted if not part.idle}
    assert {place: part.reason for place, part in reasons.items()} == {
        f"logical volume vg/{name}": f"it is a part of an LVM volume of type {kind}, which is not read here"
        for name, kind in parts.items()
    }
    assert min(part.span[0, 0] for part in reasons.values()) == extents_at + 10 * 4 * MIB
    assert_everything_is_charted_once(chart, len(data))


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The first MiB of a disk with a volume group."""
    raw = sized(tmp_path_factory.mktemp("lvm") / "raw", 64 * MIB)
    with lvm_on(raw) as lvm:
        lvm("vgcreate", "vg", *lvm.devices)
        lvm.create("root", "-L", "24M")
    return mapped(raw)[:MIB]


def padded(head):
    disk = Cached(lambda offset, length: bytes(head[offset : offset + length]).ljust(length, b"\0"), 64 * MIB)
    return Volume(disk, "the whole disk", [(0, disk.size)])


@pytest.mark.parametrize("at", ["label", "places", "area", "copy", "text"])
def test_damage_is_found_by_the_checksums(head, at):
    text = 0x1000 + copy_of(head)[0] + 16
    damaged = bytearray(head)
    damaged[{"label": 0x218, "places": 0x240, "area": 0x1004, "copy": 0x1028, "text": text}[at]] ^= 1
    with pytest.raises(Malformed):
        read_physical(padded(damaged))


def test_the_checksum_is_lvms(head):
    assert checksum(head[0x200 + 20 : 0x400]) == int.from_bytes(head[0x210:0x214], "little")


def rewritten(head, old, new):
    """Returns the disk with other metadata, checksums included."""
    start, length = copy_of(head)
    text = head[0x1000 + start : 0x1000 + start + length]
    assert text.count(old) >= 1
    text = text.replace(old, new, 1)
    data = bytearray(head)
    data[0x1000 + start : 0x1000 + start + len(text)] = text
    data[0x1030:0x1038] = len(text).to_bytes(8, "little")
    data[0x1038:0x103C] = checksum(text).to_bytes(4, "little")
    data[0x1000:0x1004] = checksum(bytes(data[0x1004:0x1200])).to_bytes(4, "little")
    return data


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"extent_count = 6", b"extent_count = 600"),
        (b"extent_count = 6", b"extent_count = 0"),
        (b"extent_size = 8192", b"extent_size = 999999999999999999"),
        (b"pe_start = 2048", b"pe_start = 8"),
        (b"pe_count = 15", b"pe_count = 17"),
        (b'stripes = [\n"pv0", 0', b'stripes = [\n"pv0", -1'),
        (b"stripe_count = 1", b"stripe_count = 2"),
        (b"segment_count = 1", b"segment_count = 2"),
        (b"start_extent = 0", b"start_extent = 1"),
        (b'id = "', b'id = 5 # "'),
        (b"seqno = 2", b"seqno = 2\nseqno = 3"),
        (b"physical_volumes {", b"physical_volumes {{"),
        (b"version = 1", b"version = 2"),
    ],
)
def test_metadata_that_contradict_themselves_are_refused(head, old, new):
    volume = padded(rewritten(head, old, new))
    volumes, chart = read_volumes(volume.disk, [volume])
    assert volumes == []
    (part,) = [part for part in chart.uncharted if not part.idle]
    assert "LVM" in part.reason


def test_metadata_rewritten_with_their_checksums_are_read(head):
    volume = padded(rewritten(head, b"extent_count = 6", b"extent_count = 7"))
    (root,), _ = read_volumes(volume.disk, [volume])
    assert root.size == 28 * MIB


@settings(max_examples=60)
@given(st.text(alphabet='ab1{}[]=,"\\\n #-.', max_size=60))
def test_any_text_is_parsed_or_refused(text):
    try:
        found = parse(text.encode())
    except Malformed:
        return
    assert all(isinstance(value, int | str | list | dict) for value in found.values())


@settings(max_examples=60)
@given(st.binary(max_size=200), st.integers(0, 900))
def test_any_text_in_the_place_of_metadata_is_charted_or_refused(head, text, at):
    start, _ = copy_of(head)
    old = head[0x1000 + start + at :][:4]
    data = rewritten(head, old, text[:3])
    volume = padded(data)
    volumes, chart = read_volumes(volume.disk, [volume])
    assert all(volume.size <= 64 * MIB for volume in volumes)
    assert chart.uncharted


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([0x21C, 0x1004]), st.integers(0, 91), st.binary(min_size=1, max_size=8)), max_size=4))
def test_any_numbers_in_the_headers_are_read_or_refused(head, damage):
    data = bytearray(head)
    for start, at, patch in damage:
        data[start + at : start + at + len(patch)] = patch
    data[0x210:0x214] = checksum(bytes(data[0x214:0x400])).to_bytes(4, "little")
    data[0x1000:0x1004] = checksum(bytes(data[0x1004:0x1200])).to_bytes(4, "little")
    volume = padded(data)
    volumes, chart = read_volumes(volume.disk, [volume])
    parts = [*(volume.span for volume in volumes), chart.tables, *(part.span for part in chart.uncharted)]
    assert extents.normalised(np.concatenate(parts)).tolist() == [[0, volume.size]]
