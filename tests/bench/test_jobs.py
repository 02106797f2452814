from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.commands import copying
from bench.inputs import Workspace
from bench.job import Side
from bench.jobs import JOBS
from bench.places import DISK, EXT4_COLD, EXT4_WARM, PLACES, TMPFS, XFS
from bench.scale import FULL, QUICK, scale, size

# The targets of the benchmark, as agreed on: (name, ratio).
RATIOS = {
    "raw-to-qcow2": 0.85,
    "qcow2-to-raw": 0.85,
    "raw-to-qcow2-reflink": 0.05,
    "qcow2-to-raw-reflink": 0.05,
    "flatten-shallow": 0.5,
    "flatten-deep": 0.1,
    "write-zlib": 0.2,
    "write-zstd": 0.5,
    "read-zlib": 0.5,
    "read-zstd": 0.8,
    "commit": 0.9,
    "commit-reflink": 0.05,
    "rebase-equal": 0.02,
    "rebase-changed": 0.5,
    "compare-siblings": 0.05,
    "compare-raw-qcow2": 0.7,
    "check": 0.25,
    "map": 0.3,
    "measure": 0.3,
    "check-shuffled": 0.25,
    "map-shuffled": 0.3,
    "measure-shuffled": 0.3,
    "create-metadata": 0.3,
    "lineage": 0.05,
    "verify-full": 1.1,
    "impact": 0.02,
    "random-read": 1.0,
}
TIMES = {
    "info": "+10 ms",
    "tree": "35 ms",
    "verify": "35 ms",
    "show": "35 ms",
    "clone": "20 ms",
    "check-ordinary": "+15 ms",
    "map-ordinary": "+15 ms",
    "measure-ordinary": "+15 ms",
    "tree-many": "+1700 ms",
    "doctor-many": "+1700 ms",
    "dependents-many": "+1700 ms",
    "gate-few": "60 ms",
    "gate-some": "70 ms",
    "gate-many": "250 ms",
    "merge-siblings": "+1000 ms, 100 MiB",
    "merge-preserving": "100 MiB",
}
REPORTED = {"raw-to-raw", "flatten-few", "impact-few", "random-write", "tree-many-rescan"}

# Those on a disk, (place, name): what is to be reached there.
_CONVERTED = "0.85 or 1.1 of the limit, as it ends 1.2"
ON_DISK = {
    **{
        (EXT4_COLD, name): _CONVERTED for name in ("raw-to-qcow2", "qcow2-to-raw", "raw-to-raw", "flatten-few", "flatten-shallow")
    },
    (EXT4_WARM, "raw-to-qcow2"): "0.5 or 1 of the limit",
    (EXT4_COLD, "commit"): "1",
    (EXT4_WARM, "commit"): "0.7 or 1 of the limit",
    (EXT4_COLD, "rebase-changed"): "0.6 or 1.5 of the limit",
    **{(place, "read-zlib"): "0.5" for place in DISK},
    **{(place, "read-zstd"): "0.75" for place in DISK},
    (EXT4_COLD, "verify-full"): "1.1 of the limit",
    (EXT4_WARM, "verify-full"): "1.3",
    **{(EXT4_WARM, f"{command}-ordinary"): "+15 ms" for command in ("check", "map", "measure")},
}


def test_every_job_has_the_target_that_was_agreed_on():
    assert {job.name: job.target.ratio for job in JOBS if job.target.ratio is not None} == RATIOS
    assert {job.name: str(job.target) for job in JOBS if job.target.extra or job.target.seconds or job.target.peak} == TIMES
    assert {job.name for job in JOBS if str(job.target) == "report"} == REPORTED


def test_every_job_on_a_disk_has_the_target_that_was_agreed_on():
    targets = {(place, job.name): str(job.target_at(place)) for job in JOBS for place in job.places if place in DISK}
    assert {where: target for where, target in targets.items() if target != "report"} == ON_DISK


def test_in_memory_the_limit_of_copies_is_what_the_kernel_needs():
    limits = {job.name: job.target_at(TMPFS).limit for job in JOBS if TMPFS in job.places and job.target_at(TMPFS).limit}
    assert limits == {"raw-to-qcow2": 1.2, "qcow2-to-raw": 1.2, "flatten-shallow": 1.2, "commit": 1.2}
    assert {job.name: job.target_at(TMPFS).ratio for job in JOBS if job.name == "flatten-shallow"} == {"flatten-shallow": 0.55}


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_a_target_is_set_only_where_the_job_runs(job):
    assert set(job.targets) <= set(job.places)
    assert all(job.bare for place in job.places if job.target_at(place).limit)


def test_names_are_unique():
    assert len({job.name for job in JOBS}) == len(JOBS)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_a_job_runs_somewhere_and_its_title_is_complete_at_every_scale(job):
    assert job.places
    assert set(job.places) <= set(PLACES)
    for sizes in (QUICK, FULL):
        assert not set("{}") & set(sizes.fill(job.title) + sizes.fill(job.peer))


@pytest.mark.parametrize("job", [job for job in JOBS if "reflink" in job.name], ids=lambda job: job.name)
def test_a_job_on_reflink_runs_where_there_is_reflink_and_nowhere_else(job):
    assert job.places == (XFS,)


@pytest.mark.parametrize("name", ["raw-to-qcow2", "qcow2-to-raw", "flatten-deep", "read-zlib"])
def test_a_conversion_meets_qemu_in_both_configurations(name, tmp_path, monkeypatch):
    monkeypatch.setattr(Workspace, "raw", lambda self, size: Path("disk.raw"))
    monkeypatch.setattr(Workspace, "qcow2", lambda self, size: Path("disk.qcow2"))
    [job] = [job for job in JOBS if job.name == name]
    side = Side(Workspace(tmp_path, tmp_path, FULL), tmp_path / "out")
    plain, parallel = job.theirs(side)
    assert plain.words[0] == "qemu-img"
    assert {"-W", "-m", "16"} <= set(parallel.words)
    assert [word for word in parallel.words if word not in ("-W", "-m", "16")] == list(plain.words)


@pytest.mark.parametrize("name", ["raw-to-qcow2", "flatten-shallow", "read-zstd"])
def test_on_a_disk_a_conversion_meets_qemu_past_the_page_cache_too(name, tmp_path, monkeypatch):
    monkeypatch.setattr(Workspace, "raw", lambda self, size: Path("disk.raw"))
    monkeypatch.setattr(Workspace, "qcow2", lambda self, size: Path("disk.qcow2"))
    [job] = [job for job in JOBS if job.name == name]
    commands = job.theirs(Side(Workspace(tmp_path, tmp_path, FULL, EXT4_COLD), tmp_path / "out"))
    direct = "-T none -t none"
    assert [command.label for command in commands] == ["plain", "-W -m 16", direct, f"{direct} -W -m 16"]
    assert all(" ".join(command.words).count(direct) == (direct in command.label) for command in commands)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("commit", ["plain", "-t none", "-d", "-d -t none"]),
        ("rebase-changed", ["plain", "-T none -t none"]),
    ],
)
def test_on_a_disk_a_change_meets_qemu_past_the_page_cache_too(name, labels, tmp_path):
    [job] = [job for job in JOBS if job.name == name]
    commands = job.theirs(Side(Workspace(tmp_path, tmp_path, FULL, EXT4_WARM), tmp_path / "out"))
    assert [command.label for command in commands] == labels
    assert all(" ".join(command.words).startswith(f"qemu-img {name.partition('-')[0]} ") for command in commands)
    assert all(command.label in " ".join(command.words) for command in commands[1:])


@pytest.mark.parametrize(("place", "shared"), [(TMPFS, False), (XFS, True), (EXT4_COLD, False)])
def test_a_copy_of_a_raw_disk_meets_every_program_that_is_installed(place, shared, tmp_path, monkeypatch):
    source = tmp_path / "disk.raw"
    source.write_bytes(bytes(4096))
    labels = [command.label for command in copying(place, source, tmp_path / "copy")]
    assert {"plain", "-W -m 16", "cp --reflink=auto"} <= set(labels)
    assert ("cp --reflink=always" in labels) is shared
    assert ("nbdcopy" in labels) is (shutil.which("nbdcopy") is not None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not any("nbdcopy" in command.label for command in copying(place, source, tmp_path / "copy"))


@pytest.mark.parametrize(("name", "equal"), [("rebase-equal", True), ("rebase-changed", False)])
def test_the_bases_of_a_rebase_are_equal_where_the_row_says_so(name, equal, tmp_path, monkeypatch):
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"x" * (4 << 20))
    monkeypatch.setattr(Workspace, "raw", lambda self, size: disk)
    space = Workspace(tmp_path, tmp_path / "own", scale(0.001))
    space.own.mkdir()
    [job] = [job for job in JOBS if job.name == name]
    job.setup(space)
    assert ((space.own / "old.raw").read_bytes() == (space.own / "new.raw").read_bytes()) is equal


def test_the_full_scale_is_that_of_the_targets():
    assert (FULL.image, FULL.overlay, FULL.mapped) == (4 << 30, 1 << 30, 1 << 40)
    assert (FULL.depths, FULL.herd, FULL.overlays) == ((10, 50, 400), 1000, 100)


def test_sizes_are_written_for_people():
    assert [size(512), size(4 << 30), size(1 << 40), size(1536)] == ["512 bytes", "4 GiB", "1 TiB", "1.5 KiB"]
