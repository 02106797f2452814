from __future__ import annotations

from pathlib import Path

import pytest

from bench.inputs import Workspace
from bench.job import TMPFS, XFS, Side
from bench.jobs import JOBS
from bench.scale import FULL, QUICK, scale, size

# The targets of the benchmark, as agreed on: (name, ratio).
RATIOS = {
    "raw-to-qcow2": 0.7,
    "qcow2-to-raw": 0.6,
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
}
WITHOUT_RATIO = {"info", "random-read", "random-write", "tree-many", "doctor-many", "dependents-many", "tree-many-rescan"}


def test_every_job_has_the_target_that_was_agreed_on():
    assert {job.name: job.target.ratio for job in JOBS if job.target.ratio is not None} == RATIOS
    assert {job.name for job in JOBS if job.target.ratio is None} == WITHOUT_RATIO


def test_names_are_unique():
    assert len({job.name for job in JOBS}) == len(JOBS)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_a_job_runs_somewhere_and_its_title_is_complete_at_every_scale(job):
    assert job.places
    assert set(job.places) <= {TMPFS, XFS}
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
    assert (FULL.depths, FULL.herd, FULL.overlays) == ((50, 400), 1000, 100)


def test_sizes_are_written_for_people():
    assert [size(512), size(4 << 30), size(1 << 40), size(1536)] == ["512 bytes", "4 GiB", "1 TiB", "1.5 KiB"]
