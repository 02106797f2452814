"""XFS as the kernel writes it: files, owners of blocks and judgement, held against the kernel, xfs_db and xfs_repair.

To search for longer, in more damaged and more torn file systems:

    COWHERD_EXAMPLES=200 pytest -o faulthandler_timeout=0 tests/guest/test_xfs.py
"""

from __future__ import annotations

import dataclasses
import hashlib
import mmap
import os
import random
import re
import shutil
import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd import extents
from cowherd.guest.crc import crc32c
from cowherd.guest.source import Cached, Malformed, Volume
from cowherd.guest.xfs import read_xfs
from cowherd.guest.xfs.dirblocks import hash_of
from tests.guest import truth
from tests.images import examples
from tests.storage.hosts import run

MIB = 1 << 20
LARGE = dataclasses.replace(truth.XFS, size=40 * MIB)


def with_options(*options: str) -> truth.Kind:
    make = [word for word in LARGE.make if word not in ("-d", "agcount=2")]
    return dataclasses.replace(LARGE, name=" ".join(options) or "defaults", make=[*make, *options])


KINDS = [
    with_options(),
    with_options("-m", "rmapbt=1,reflink=1,bigtime=1,inobtcount=1", "-i", "nrext64=1", "-d", "agcount=2"),
    with_options("-b", "size=1024", "-n", "size=8192", "-m", "rmapbt=1"),
    with_options("-m", "reflink=0,finobt=0,bigtime=0,inobtcount=0", "-i", "sparse=0,size=2048", "-s", "size=4096"),
]


def opened(raw: Path) -> Volume:
    with raw.open("rb") as file:
        return volume_of(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def volume_of(data) -> Volume:
    disk = Cached(lambda offset, length: bytes(data[offset : offset + length]), len(data))
    return Volume(disk, "the whole disk", [(0, len(data))])


def made(raw: Path, kind: truth.Kind, work=None) -> Path:
    with raw.open("wb") as file:
        file.truncate(kind.size)
    truth.require("mkfs.xfs", "xfs_repair", "xfs_db")
    run(*kind.make, raw)
    if work:
        change(raw, work)
    return raw


def change(raw: Path, work) -> None:
    try:
        mounted = truth.mounted(raw, LARGE)
        with mounted as folder:
            work(folder)
    except OSError as error:
        if "mount" not in str(error):
            raise
        pytest.skip(f"can't mount: {error}")


def listed(raw: Path) -> dict[str, str]:
    with truth.mounted(raw, LARGE, LARGE.options) as folder:
        return truth.listing(folder)


def as_listed(volume: Volume, system) -> dict[str, str]:
    """What was read, in the form of a listing; links by the digest of where they lead to."""
    found = {}
    for path, entry in system.files.items():
        assert entry.problem is None
        if entry.kind == "directory":
            found[f"{path}/"] = ""
        elif entry.digest is not None:
            found[path] = entry.digest
        else:
            content = bytearray(entry.size)
            for offset, start, length in entry.runs.tolist():
                content[offset : offset + length] = volume.read(start, length)
            found[path] = hashlib.sha256(content).hexdigest()
    return found


def expected_of(listing: dict[str, str]) -> dict[str, str]:
    """A listing by the kernel in the form of `as_listed`; devices are left as they are."""
    found = {}
    for path, digest in listing.items():
        target = digest.removeprefix("link to ")
        link = hashlib.sha256(bytes([stat.S_IFLNK >> 12]) + os.fsencode(target)).hexdigest()
        found[path] = "" if path.endswith("/") else link if target != digest else digest
    return found


def furnish(folder: Path) -> None:
    """Files of every shape that XFS keeps in a way of its own."""
    chance = random.Random(4)
    truth.fill(folder, 1, 40)
    deep = folder
    for number in range(40):
        deep = deep / f"level{number}"
    deep.mkdir(parents=True)
    (deep / "bottom").write_bytes(b"deep")
    os.link(folder / "dir0" / "file0", folder / "dir1" / "hard")
    (folder / "short").symlink_to("dir0/file0")
    (folder / "long").symlink_to("x/" * 450)
    os.mkfifo(folder / "fifo")
    for name, count in (("few", 3), ("block", 40), ("leaf", 150), ("node", 900)):
        (folder / name).mkdir()
        for number in range(count):
            (folder / name / f"name of file {number}").touch()
    for number in range(0, 900, 3):
        (folder / "node" / f"name of file {number}").unlink()
    with (folder / "holes").open("wb") as file:
        for number in range(300):
            file.seek(number * 24576)
            file.write(chance.randbytes(4096))
        file.truncate(40 << 20)
    with (folder / "reserved").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
        file.write(b"start")
    (folder / "removed").write_bytes(chance.randbytes(3 << 20))
    attributes(folder / "dir2", chance)
    (folder / "removed").unlink()


def attributes(folder: Path, chance: random.Random) -> None:
    """Attributes in the inode, in a leaf, in a tree of leaves, and of a value in blocks of its own."""
    files = sorted(folder.iterdir())
    os.setxattr(files[0], "user.short", b"value")
    os.setxattr(files[1], "user.leaf", chance.randbytes(1500))
    for number in range(120):
        os.setxattr(files[2], f"user.name{number}", chance.randbytes(90))
    os.setxattr(files[3], "user.remote", chance.randbytes(50000))


def reflink(folder: Path) -> None:
    done = subprocess.run(
        ["cp", "--reflink=always", folder / "dir3" / "file3", folder / "shared"], check=False, capture_output=True
    )
    if not done.returncode:
        run("cp", "--reflink=always", folder / "holes", folder / "shared holes")
        with (folder / "shared holes").open("r+b") as file:
            file.seek(24576 * 7)
            file.write(b"own" * 3000)


@pytest.fixture(scope="module")
def of_kind(tmp_path_factory):
    """Makes a file system of a kind with everything in it, as the kernel leaves it; each kind once."""
    folder, there = tmp_path_factory.mktemp("xfs"), {}

    def give(kind: truth.Kind) -> Path:
        if kind.name not in there:
            there[kind.name] = made(folder / f"raw{len(there)}", kind, lambda folder: (furnish(folder), reflink(folder)))
        return there[kind.name]

    yield give
    shutil.rmtree(folder)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def furnished(request, of_kind):
    """A furnished file system of each kind."""
    return of_kind(request.param)


@pytest.fixture
def usual(of_kind):
    """A furnished file system of the kind that mkfs.xfs makes unless told otherwise."""
    return of_kind(KINDS[0])


def test_every_file_is_read_as_the_kernel_reads_it(furnished):
    volume = opened(furnished)
    system = read_xfs(volume)
    expected = expected_of(listed(furnished))
    found = as_listed(volume, system)
    assert found.keys() == expected.keys()
    assert found.pop("/fifo") != expected.pop("/fifo")
    assert found == expected


def test_what_the_kernel_leaves_agrees_with_itself(furnished):
    system = read_xfs(opened(furnished))
    assert (system.checked, system.contradictions, system.notes) == (True, (), ())


def database(raw: Path, *commands: str) -> str:
    return run("xfs_db", "-r", *(word for command in commands for word in ("-c", command)), raw)


def numbers_of(raw: Path, *names: str) -> list[int]:
    return [int(re.search(rf"^{name} = (\d+)", database(raw, "sb 0", "p"), re.MULTILINE)[1]) for name in names]


def test_free_space_is_what_xfs_db_says(furnished):
    system = read_xfs(opened(furnished))
    block, group = numbers_of(furnished, "blocksize", "agblocks")
    rows = [
        list(map(int, line.split())) for line in database(furnished, "freesp -d").splitlines() if re.fullmatch(r"[\d\s]+", line)
    ]
    rows = [row for row in rows if len(row) == 3]
    pairs = [((number * group + start) * block, (number * group + start + count) * block) for number, start, count in rows]
    assert extents.subtract(extents.ranges(pairs), system.free).tolist() == []
    rest = extents.subtract(system.free, extents.ranges(pairs))  # blocks kept for trees, and past the last whole block
    assert extents.total(rest) <= 64 * 4 * block


def test_a_files_runs_are_what_xfs_db_says(furnished):
    system = read_xfs(opened(furnished))
    block, group = numbers_of(furnished, "blocksize", "agblocks")
    for path in ("/holes", "/dir6/file6", "/reserved"):
        with truth.mounted(furnished, LARGE, LARGE.options) as folder:
            inode = (folder / path[1:]).stat().st_ino
        found = re.findall(
            r"data offset (\d+) startblock \d+ \((\d+)/(\d+)\) count (\d+) flag (\d)",
            database(furnished, f"inode {inode}", "bmap"),
        )
        runs = [tuple(map(int, row)) for row in found]
        pairs = [
            ((number * group + start) * block, (number * group + start + count) * block)
            for _, number, start, count, flag in runs
            if not flag
        ]
        entry = system.files[path]
        assert extents.subtract(entry.ranges, extents.ranges(pairs)).tolist() == []
        assert extents.total(entry.ranges) > extents.total(extents.ranges(pairs)) - block


def test_every_byte_is_content_or_structure_or_unused(furnished):
    system = read_xfs(opened(furnished))
    assert not len(extents.intersect(system.content, system.metadata))
    unused = extents.subtract(extents.subtract(system.span, system.content), system.metadata)
    assert extents.total(system.content) + extents.total(system.metadata) + extents.total(unused) == LARGE.size
    assert system.owners(system.span).get("other", 0) == 0


def test_nothing_but_free_space_may_be_overwritten_without_notice(furnished, tmp_path):
    """What is called unused can hold anything: the kernel reads the same, and xfs_repair finds nothing."""
    system = read_xfs(opened(furnished))
    before = listed(furnished)
    raw = Path(shutil.copy(furnished, tmp_path / "raw"))
    used = extents.union(system.content, system.metadata)
    with raw.open("r+b") as file:
        for start, end in extents.subtract(system.span, used).tolist():
            file.seek(start)
            file.write(b"\xa5" * (end - start))
    assert listed(raw) == before
    run("xfs_repair", "-n", raw)
    raw.unlink()


STRUCTURES = (
    "group headers",
    "free space trees",
    "inode trees",
    "inodes",
    "directory",
    "extended attributes",
    "file map",
    "symbolic link",
)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_damage_to_a_structure_is_found_as_xfs_repair_finds_it(usual, tmp_path, structure):
    data = bytearray(usual.read_bytes())
    system = read_xfs(volume_of(data))
    ranges = dict(system.areas).get(structure)
    if ranges is None:
        pytest.skip("there is none")
    chance = random.Random(1)
    raw = tmp_path / "raw"
    for _ in range(2):
        start, end = chance.choice(ranges.tolist())
        at = start + 512 * chance.randrange((end - start) // 512)
        damaged = bytearray(data)
        damaged[at : at + 48] = bytes(byte ^ 0x55 for byte in damaged[at : at + 48])
        raw.write_bytes(damaged)
        clean = subprocess.run(["xfs_repair", "-n", raw], capture_output=True, check=False).returncode == 0
        found = read_xfs(volume_of(damaged)).contradictions
        assert bool(found) or clean
    raw.unlink()


def test_the_hash_of_a_name_is_xfs_dbs(usual):
    for name in ("a", "ab", "abc", "abcd", "name_of_file_17", "x" * 255):
        assert int(database(usual, f"hash {name}"), 16) == hash_of(name.encode())


@pytest.fixture(scope="module")
def structures(of_kind):
    """The bytes of a file system, and (name, (start, end)) of its structures."""
    content = of_kind(KINDS[0]).read_bytes()
    areas = read_xfs(volume_of(content)).areas
    return content, [(name, pair) for name, ranges in areas if name != "log" for pair in ranges.tolist()]


@settings(max_examples=examples(25), deadline=None)
@given(data=st.data())
def test_a_damaged_file_system_is_read_or_refused(structures, data):
    """Each damage hits structures, and checksums are made to fit it, so that it gets further than the first look."""
    content, places = bytearray(structures[0]), structures[1]
    for _ in range(data.draw(st.integers(1, 6))):
        name, (start, end) = data.draw(st.sampled_from(places))
        at = start + data.draw(st.integers(0, end - start - 9))
        content[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
        mend(content, name, at)
    try:
        found = read_xfs(volume_of(content))
    except Malformed:
        return
    assert all(start + length <= len(content) for entry in found.files.values() for _, start, length in entry.runs.tolist())


SUMS = {
    "superblock": (512, 224),
    "group headers": (512, 216),
    "free space trees": (4096, 52),
    "inode trees": (4096, 52),
    "owner trees": (4096, 52),
    "reference trees": (4096, 52),
    "inodes": (512, 100),
    "directory": (4096, 4),
    "file map": (4096, 64),
    "extended attributes": (4096, 12),
    "symbolic link": (4096, 12),
}
"""How long each structure is, and where its checksum lies."""


def mend(content: bytearray, name: str, at: int) -> None:
    size, place = SUMS[name]
    start = at // size * size
    if name == "group headers":
        place = {b"XAGF": 216, b"XAGI": 312, b"XAFL": 32}.get(bytes(content[start : start + 4]), 224)
    if name == "directory" and content[start : start + 2] != b"XD":
        place = 12
    content[start + place : start + place + 4] = bytes(4)
    sum_of = crc32c(bytes(content[start : start + size])) ^ 0xFFFFFFFF
    content[start + place : start + place + 4] = sum_of.to_bytes(4, "little")


def test_mending_gives_the_checksums_that_are_there(usual):
    content = bytearray(usual.read_bytes())
    system = read_xfs(volume_of(content))
    for name, ranges in system.areas:
        if name != "log":
            mend(content, name, int(ranges[0, 0]))
    assert content == usual.read_bytes()


def test_a_log_that_was_not_replayed_is_told_and_nothing_is_called_free(tmp_path):
    raw = tmp_path / "raw"
    made(raw, LARGE, lambda folder: (folder / "before").write_bytes(b"x" * 9000))
    with truth.mounted(raw, LARGE) as folder:
        (folder / "after").write_bytes(b"y" * 9000)
        (folder / "before").unlink()
        run("sync", "-f", folder)
        run("xfs_io", "-c", "fsync", folder)
        crashed = raw.read_bytes()
    system = read_xfs(volume_of(crashed))
    assert not system.checked
    assert any("not replayed" in note for note in system.notes)
    assert extents.total(system.free) == 0
    assert "space that its log may put to use" in dict(system.areas)
    assert read_xfs(opened(raw)).checked


def test_a_last_record_that_is_no_unmount_leaves_the_log_open(usual):
    content = bytearray(usual.read_bytes())
    ((start, end),) = dict(read_xfs(volume_of(content)).areas)["log"].tolist()
    records = [at for at in range(start, end, 512) if content[at : at + 4] == b"\xfe\xed\xba\xbe"]
    last = max(records, key=lambda at: content[at + 16 : at + 24])
    assert int.from_bytes(content[last + 40 : last + 44], "big") == 1
    content[last + 512 + 9] = 0x02  # the operation is a commit now
    assert not read_xfs(volume_of(content)).checked


def test_an_inode_that_directories_lead_to_is_read_even_if_no_tree_lists_it(usual):
    content = bytearray(usual.read_bytes())
    tree = dict(read_xfs(volume_of(content)).areas)["inode trees"]
    before = read_xfs(volume_of(content)).files.keys()
    for start, end in tree.tolist():
        for block in range(start, end, 4096):
            if content[block : block + 4] == b"IAB3" and content[block + 7] > 1:
                content[block + 7] -= 1  # forgets the last record
                mend(content, "inode trees", block)
    system = read_xfs(volume_of(content))
    assert system.files.keys() == before
    assert any("marked as free" in problem for problem in system.contradictions)


@pytest.mark.parametrize(
    ("structure", "magic", "record", "said"),
    [("owner trees", b"RMB3", 24, "trees of owners"), ("reference trees", b"R3FC", 12, "trees of references")],
    ids=["owners", "references"],
)
def test_trees_that_name_others_than_own_the_blocks_are_contradicted(of_kind, tmp_path, structure, magic, record, said):
    content = bytearray(of_kind(KINDS[1]).read_bytes())
    blocks = dict(read_xfs(volume_of(content)).areas)[structure].tolist()
    starts = [block for start, end in blocks for block in range(start, end, 4096)]
    block = next(at for at in starts if content[at : at + 6] == magic + b"\0\0" and content[at + 7])
    last = block + 56 + record * (content[block + 7] - 1)
    content[last + (15 if record == 24 else 11)] += 1
    mend(content, structure, block)
    assert any(said in problem for problem in read_xfs(volume_of(content)).contradictions)
    raw = tmp_path / "raw"
    raw.write_bytes(content)
    assert subprocess.run(["xfs_repair", "-n", raw], capture_output=True, check=False).returncode == 1
    raw.unlink()


PROTOTYPE = """/stand/diskboot
4872 110
d--755 0 0
: a comment
{entries}
$
"""


@pytest.mark.parametrize("options", [("-b", "size=512"), ("-b", "size=4096", "-n", "size=8192"), ("-n", "ftype=0,size=16384")])
def test_version_4_is_read_as_mkfs_writes_it(tmp_path, options):
    """Kernels don't mount version 4 any more; mkfs.xfs still fills one from a prototype."""
    chance, entries, expected = random.Random(2), [], {}
    (tmp_path / "files").mkdir()
    for name, count in (("small", 3), ("block", 40), ("large", 1100)):
        entries.append(f"{name} d--755 0 0")
        expected[f"/{name}/"] = ""
        for number in range(count):
            source = tmp_path / "files" / f"{name}{number}"
            source.write_bytes(chance.randbytes(chance.choice([0, 20, 700, 9000]) if number < 50 else 0))
            entries.append(f"name_of_{number} ---644 0 0 {source}")
            expected[f"/{name}/name_of_{number}"] = hashlib.sha256(source.read_bytes()).hexdigest()
        entries.append("$")
    entries.append(f"link l--777 0 0 {'x/' * 300}")
    expected["/link"] = hashlib.sha256(b"\x0a" + b"x/" * 300).hexdigest()
    (tmp_path / "prototype").write_text(PROTOTYPE.format(entries="\n".join(entries)))
    raw = made(tmp_path / "raw", with_options("-m", "crc=0", "-i", "attr=2", *options, "-p", str(tmp_path / "prototype")))
    volume = opened(raw)
    system = read_xfs(volume)
    assert (system.kind, system.checked, system.contradictions) == ("XFS 4", True, ())
    assert as_listed(volume, system) == expected
    run("xfs_repair", "-n", raw)


def live(folder: Path, seed: int, changes: int) -> None:
    """Changes files, names in large directories, attributes and shared blocks."""
    chance = random.Random(seed)
    truth.churn(folder, seed, changes)
    for _ in range(changes):
        large = folder / chance.choice(["leaf", "node"])
        names = sorted(large.iterdir())
        chance.choice(names).unlink()
        for number in range(chance.choice([0, 1, 60])):
            (large / f"made by {seed} {number} {chance.random()}").touch()
    path = chance.choice(sorted((folder / "dir2").iterdir()))
    if chance.random() < 0.5 and path.is_file():
        os.setxattr(path, f"user.live{chance.randrange(3)}", chance.randbytes(chance.choice([40, 2000, 9000])))
    if chance.random() < 0.5:
        with (folder / "holes").open("r+b") as file:
            for _ in range(changes):
                file.seek(4096 * chance.randrange(1800))
                file.write(chance.randbytes(5000))


def blocks_of(raw: Path):
    return np.frombuffer(raw.read_bytes(), np.uint8).reshape(-1, 4096)


@pytest.mark.parametrize("seed", range(examples(4)))
def test_two_states_side_by_side_are_judged_as_xfs_repair_does(of_kind, tmp_path, seed):
    """One state shows through wherever the other did not write, as an overlay's base does."""
    chance = random.Random(seed)
    base = of_kind(KINDS[seed % len(KINDS)])
    states = []
    for number in range(2):
        raw = Path(shutil.copy(base, tmp_path / f"state{number}"))
        change(raw, lambda folder, number=number: live(folder, 2 * seed + number, chance.choice([1, 2, 5])))
        states.append(blocks_of(raw))
    run_length = chance.choice([1, 16])
    written = (states[0] != blocks_of(base)).any(axis=1).reshape(-1, run_length).any(axis=1).repeat(run_length)
    mixed = tmp_path / "mixed"
    mixed.write_bytes(np.where(written[:, None], *states).tobytes())
    volume = opened(mixed)
    system = read_xfs(volume)
    clean = subprocess.run(["xfs_repair", "-n", mixed], capture_output=True, check=False).returncode == 0
    assert (system.checked and not system.contradictions) == clean
    readable = {path: entry for path, entry in system.files.items() if entry.problem is None}
    found, expected = as_listed(volume, dataclasses.replace(system, files=readable)), expected_of(listed(mixed))
    del found["/fifo"], expected["/fifo"]
    assert found == expected


def test_blocks_that_hold_several_records_of_inodes_are_read(tmp_path):
    kind = dataclasses.replace(with_options("-b", "size=65536", "-m", "rmapbt=1"), size=600 * MIB)
    raw = made(tmp_path / "raw", kind, lambda folder: truth.fill(folder, 1, 200))
    volume = opened(raw)
    system = read_xfs(volume)
    assert (system.checked, system.contradictions) == (True, ())
    assert as_listed(volume, system) == expected_of(listed(raw))
