from __future__ import annotations

import subprocess
import sys
import time

import pytest

from bench.measure import LAUNCHER, BenchmarkFailed, Command, measure


def python(script, **more):
    return Command("python", (sys.executable, "-c", script), **more)


def test_wall_time_counts_waiting_and_cpu_time_does_not(tmp_path):
    run = measure(python("import time; time.sleep(0.3)"), tmp_path / "out")
    assert run.wall >= 0.3
    assert run.cpu < run.wall


def test_the_peak_is_the_childs_and_not_that_of_the_process_that_measures(tmp_path):
    held = bytearray(b"x") * (200 << 20)
    small = measure(Command("true", ("true",)), tmp_path / "out")
    large = measure(python("held = bytearray(b'x') * (100 << 20)"), tmp_path / "out")
    assert small.peak < 50 << 20 < 100 << 20 <= large.peak < len(held)


def test_what_a_shell_starts_is_counted_to_it(tmp_path):
    work = f"{sys.executable} -c 'sum(range(10_000_000))'; true"
    run = measure(Command("sh", ("sh", "-c", work)), tmp_path / "out")
    assert run.cpu > 0.05


def test_the_output_is_kept(tmp_path):
    run = measure(python("print('hello')"), tmp_path / "out")
    assert run.output.read_text() == "hello\n"


def test_a_command_whose_time_is_up_is_stopped_with_all_that_it_started(tmp_path):
    script = f"(sleep 1; touch {tmp_path / 'late'}) & sleep 60"
    run = measure(Command("sh", ("sh", "-c", script)), tmp_path / "out", limit=0.2)
    assert run.stopped
    assert 0.2 <= run.wall < 30
    time.sleep(1.5)
    assert not (tmp_path / "late").exists()


def test_a_command_that_ends_in_time_is_not_stopped(tmp_path):
    assert not measure(Command("true", ("true",)), tmp_path / "out", limit=60).stopped


def test_what_writes_is_timed_until_its_file_system_is_flushed_too(tmp_path):
    run = measure(Command("true", ("true",)), tmp_path / "out", writes=True)
    assert run.flush > 0
    assert run.durable == run.wall + run.flush


def test_what_writes_nothing_is_not_flushed(tmp_path):
    run = measure(Command("true", ("true",)), tmp_path / "out")
    assert (run.flush, run.durable) == (0, run.wall)


def test_a_flush_that_fails_is_an_error_of_the_launcher(tmp_path):
    words = [sys.executable, "-I", "-S", str(LAUNCHER), str(tmp_path / "out"), "0", str(tmp_path / "nowhere"), "true"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "exit code 1" in done.stderr
    assert done.stdout == ""


def test_an_exit_code_that_is_not_expected_fails_the_benchmark(tmp_path):
    assert measure(python("raise SystemExit(4)", codes=(0, 4)), tmp_path / "out").code == 4
    with pytest.raises(BenchmarkFailed, match="exit code 5"):
        measure(python("raise SystemExit(5)", codes=(0, 4)), tmp_path / "out")
