"""The harness notices what would be a loss: it is broken here once in each way, and must say so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.reliability.jobs import JOBS, Job
from tests.reliability.scenes import staged
from tests.reliability.truth import Untrue, assert_interrupted_well, assert_recovers

pytestmark = pytest.mark.qemu


def job(name: str) -> Job:
    return next(job for job in JOBS if job.name == name)


def remove_trashed(root: Path) -> None:
    for path in root.glob(".cowherd-trash/*/two"):
        path.unlink()


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("merge, preserve", lambda root: (root / "two").unlink()),
        ("merge, preserve", lambda root: (root / "base.seal").unlink()),
        ("merge, preserve", lambda root: shutil.copy(root / "one", root / "two")),
        ("merge, preserve", lambda root: os.truncate(root / "two", 100)),
        ("seal", lambda root: (root / "deep").unlink()),
        ("trash restore", remove_trashed),
        ("delete", lambda root: (root / "two").unlink()),
        ("move --repair", lambda root: (root / "one").unlink()),
        ("move --repair", lambda root: (root / "there/base").unlink()),
    ],
)
def test_a_disk_or_a_seal_that_is_removed_or_replaced_is_noticed(tmp_path, name, harm):
    with staged(job(name), tmp_path / "herd") as scene, scene.laid_out(scene.expected.before) as root:
        assert_interrupted_well(scene.expected, root)
        harm(root)
        with pytest.raises(Untrue):
            assert_interrupted_well(scene.expected, root)


def test_a_job_that_is_not_done_by_the_second_run_is_noticed(tmp_path):
    with staged(job("seal"), tmp_path / "herd") as scene, scene.laid_out(scene.expected.before) as root:
        object.__setattr__(scene.expected, "job", job("gc"))
        with pytest.raises(Untrue, match=r"base\.seal"):
            assert_recovers(scene.expected, root)
