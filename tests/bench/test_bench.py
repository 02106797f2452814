from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import run
from bench.bare import Bare
from bench.inputs import Workspace, chain, mapped, shuffle_tables, tool
from bench.job import Job
from bench.limits import Limits
from bench.measure import BenchmarkFailed, Command
from bench.ratio import Target
from bench.scale import QUICK

ROOT = Path(__file__).parents[2]


def bench(*words):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "bench", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def job(**more):
    """A job of commands that cost nothing; both sides print the same."""
    facts = {
        "setup": lambda space: None,
        "theirs": lambda side: (Command("slow", ("sh", "-c", "sleep 0.1; echo x")), Command("quick", ("echo", "x"))),
        "ours": lambda side: Command("ours", ("echo", "x")),
        "differs": lambda space, theirs, ours: None if theirs.run.output.read_text() == ours.run.output.read_text() else "texts",
    }
    return Job("job", "a job", "echo", Target(), **facts | more)


@pytest.fixture
def space(tmp_path):
    space = Workspace(tmp_path / "shared", tmp_path / "own", QUICK)
    space.shared.mkdir()
    space.own.mkdir()
    return space


def test_the_best_configuration_of_the_peer_counts(space):
    row = run.run_job(job(), space, Limits(2), lambda text: None)
    assert (row.configuration, row.pairs) == ("quick", 2)
    assert row.theirs.wall < 0.1


def counting(label, folder, script):
    """A command that leaves one more line in a file of its own each time."""
    return Command(label, ("sh", "-c", f"echo >> {folder / label}; {script}"))


def counted(folder):
    return {path.name: len(path.read_text()) for path in folder.iterdir() if path.name in ("slow", "quick", "ours")}


def test_a_configuration_that_is_clearly_slower_runs_in_two_pairs_only(space):
    def theirs(side):
        return (counting("slow", space.shared, "sleep 0.3; echo x"), counting("quick", space.shared, "echo x"))

    row = run.run_job(job(theirs=theirs), space, Limits(4), lambda text: None)
    assert counted(space.shared) == {"slow": 2, "quick": 4}
    assert (row.configuration, row.pairs, row.stopped_after) == ("quick", 4, None)


def test_a_peer_that_runs_out_of_time_runs_once_and_the_ratio_is_against_its_limit(space):
    def theirs(side):
        return (counting("slow", space.shared, "sleep 60"),)

    ours = counting("ours", space.shared, "sleep 0.1")
    row = run.run_job(job(theirs=theirs, ours=lambda side: ours), space, Limits(3, 0.5), lambda text: None)
    assert counted(space.shared) == {"slow": 1, "ours": 3}
    assert 0.5 <= row.stopped_after < 30
    assert row.compared.ends.middle == pytest.approx(row.ours.wall / row.stopped_after)


def test_where_one_configuration_runs_out_of_time_another_counts_and_is_compared(space):
    def theirs(side):
        return (Command("quick", ("echo", "y")), counting("slow", space.shared, "sleep 60"))

    with pytest.raises(BenchmarkFailed, match="the results differ: texts"):
        run.run_job(job(theirs=theirs), space, Limits(2, 0.5), lambda text: None)


def test_a_row_that_takes_long_gets_fewer_pairs_but_two(space):
    rows = [run.run_job(job(), space, Limits(4, row=limit), lambda text: None) for limit in (0.001, 1000)]
    assert [(row.pairs, row.pairs_wanted) for row in rows] == [(2, 4), (4, 4)]


def test_results_are_compared_in_the_first_and_the_last_pair(space):
    compared = []
    counted = job(differs=lambda space, theirs, ours: compared.append(ours.run))
    run.run_job(counted, space, Limits(4), lambda text: None)
    run.run_job(counted, space, Limits(4, row=0.001), lambda text: None)
    assert len(compared) == 4


def test_what_the_machine_itself_needs_runs_beside_each_pair_and_leaves_nothing(space):
    source = space.shared / "source"
    source.write_bytes(b"x" * 8192)
    left = []
    ours = Command("ours", ("sh", "-c", "sleep 0.3; echo x"))

    def prepare(side):
        left.append((side.space.own / "out" / "bare").exists())

    bare = job(bare=lambda space: Bare((source,), 8192, 8192), ours=lambda side: ours, prepare=prepare)
    row = run.run_job(bare, space, Limits(2), lambda text: None)
    assert row.limit.way == "kernel"
    assert 0 < row.limit.seconds < row.ours.wall
    assert row.compared.limit.middle == pytest.approx(row.ours.wall / row.limit.seconds, rel=0.5)
    assert not any(left)


def test_a_job_that_writes_much_has_both_times_and_the_durable_one_counts(space):
    def both_write(side):
        return Command("plain", ("sh", "-c", f"head -c 1000000 /dev/zero > {side.out / 'made'}; echo x"))

    writing = job(theirs=lambda side: (both_write(side),), ours=both_write, writes_much=True)
    row = run.run_job(writing, space, Limits(1), lambda text: None)
    assert row.ours.durable > row.ours.wall
    assert row.compared.durable.middle == pytest.approx(row.ours.durable / row.theirs.durable)
    assert row.compared.ends.middle == pytest.approx(row.ours.wall / row.theirs.wall)


def test_a_place_with_a_target_of_its_own_is_held_to_it(space):
    both = job(targets={"xfs": Target(seconds=60), "ext4-cold": Target(seconds=0)})
    rows = [
        run.run_job(both, dataclasses.replace(space, place=place), Limits(1), lambda text: None) for place in ("tmpfs", "xfs")
    ]
    assert [(row.place, row.target, row.reached) for row in rows] == [("tmpfs", "report", None), ("xfs", "60000 ms", True)]


def test_results_that_differ_fail_the_job(space):
    other = job(ours=lambda side: Command("ours", ("echo", "y")))
    with pytest.raises(BenchmarkFailed, match="the results differ: texts"):
        run.run_job(other, space, Limits(1), lambda text: None)


def test_no_run_finds_an_output_of_an_earlier_one(space):
    def theirs(side):
        return (Command("plain", ("mkdir", str(side.out / "made"))),)

    once = job(theirs=theirs, ours=lambda side: theirs(side)[0])
    assert run.run_job(once, space, Limits(3), lambda text: None).pairs == 3


def test_a_job_leaves_nothing_behind(space):
    run.run_job(job(), space, Limits(1), lambda text: None)
    assert not space.own.exists()


def test_a_job_that_lacks_something_says_so_and_runs_nothing(space):
    lacking = dataclasses.replace(job(), setup=lambda space: pytest.fail("set up"), missing=lambda: "no peer")
    assert run.run_job(lacking, space, Limits(1), lambda text: None).missing == "no peer"


def beginning(image: Path) -> bytes:
    with image.open("rb") as file:
        return file.read(1 << 20)


@pytest.mark.qemu
def test_shuffled_tables_leave_an_image_clean_and_lie_elsewhere(tmp_path):
    image = tmp_path / "image.qcow2"
    mapped(image, 4 << 30)
    before = beginning(image)
    first = tool("qemu-img", "map", "--output=json", image)
    shuffle_tables(image)
    assert beginning(image) != before
    assert tool("qemu-img", "map", "--output=json", image) == first
    assert "No errors" in tool("qemu-img", "check", image)


@pytest.mark.qemu
def test_a_chain_has_its_depth_and_each_layer_holds_something(tmp_path):
    base = tmp_path / "base.raw"
    base.touch()
    os.truncate(base, 8 << 20)
    top = chain(tmp_path, base, "raw", 8 << 20, 3)
    layers = json.loads(tool("qemu-img", "info", "--backing-chain", "--output=json", top))
    assert [Path(layer["filename"]).name for layer in layers] == [
        "layer-002.qcow2",
        "layer-001.qcow2",
        "layer-000.qcow2",
        "base.raw",
    ]
    assert all(layer["actual-size"] > 65536 for layer in layers[:3])


@pytest.mark.qemu
@pytest.mark.skipif(shutil.which("mke2fs", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None, reason="no mke2fs")
def test_a_quick_run_of_two_cheap_jobs_prints_and_writes_their_figures(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    files = ("--json", tmp_path / "run.json", "--picture", tmp_path / "run.svg")
    done = bench("--quick", "--folder", work, "--job", "info", "--job", "create-metadata", *files)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "run.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["create-metadata", "info"]
    assert all(row["ours"]["wall"] > 0 and row["theirs"]["peak"] > 0 and row["compared"]["ends"]["middle"] > 0 for row in rows)
    assert "| info of one image, start to end | tmpfs | qemu-img info |" in done.stdout
    assert (tmp_path / "run.svg").read_text().startswith("<svg")
    assert list(work.iterdir()) == []


@pytest.mark.qemu
def test_a_run_told_to_end_leaves_nothing_behind(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [
        sys.executable,
        "-m",
        "bench",
        "--quick",
        "--pairs",
        "100000",
        "--job",
        "create-metadata",
        "--folder",
        str(tmp_path),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stderr.readline() == "create-metadata on tmpfs: pair 1 of 100000\n"
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted" in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.qemu
def test_where_a_place_cant_be_had_its_rows_say_why_and_nothing_has_failed(tmp_path):
    words = ("--quick", "--place", "ext4-warm", "--place", "ext4-cold", "--job", "check-ordinary", "--job", "impact-few")
    done = bench(*words, "--disk", tmp_path / "nowhere")
    lines = [line for line in done.stdout.splitlines() if "ext4" in line and line.startswith("|")]
    assert done.returncode == 0
    assert [line.split("|")[2].strip() for line in lines] == ["ext4-warm", "ext4-warm", "ext4-cold"]
    assert all("not run: " in line and "nowhere is no folder" in line for line in lines)


def test_a_job_that_is_not_there_is_wrong_usage():
    done = bench("--job", "nothing")
    assert done.returncode == 2
    assert "invalid choice" in done.stderr
