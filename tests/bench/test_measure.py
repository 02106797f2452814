from __future__ import annotations

import sys

import pytest

from bench.measure import BenchmarkFailed, Command, measure


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


def test_an_exit_code_that_is_not_expected_fails_the_benchmark(tmp_path):
    assert measure(python("raise SystemExit(4)", codes=(0, 4)), tmp_path / "out").code == 4
    with pytest.raises(BenchmarkFailed, match="exit code 5"):
        measure(python("raise SystemExit(5)", codes=(0, 4)), tmp_path / "out")
