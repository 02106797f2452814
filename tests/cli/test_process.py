"""How the programs end."""

from __future__ import annotations

import subprocess
import sys

import pytest


def python(script: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, check=False, **more)


def test_all_output_is_written_before_the_process_ends():
    script = (
        "import sys; from cowherd.cli.process import run; run(lambda: print('x' * 100_000, end='') or sys.stderr.write('y') * 4)"
    )
    done = python(script)
    assert (done.returncode, len(done.stdout), done.stderr) == (4, 100_000, "y")


@pytest.mark.parametrize("program", ["img", "guard"])
def test_the_installed_programs_end_with_the_exit_code_of_the_command(program):
    done = python(f"import sys; sys.argv = ['x', 'nonsense']; from cowherd.cli.{program}.main import program; program()")
    assert done.returncode == {"img": 1, "guard": 2}[program]
    assert "nonsense" in done.stderr


def test_output_that_nobody_takes_is_an_error_and_no_silent_success():
    with open("/dev/full", "w") as full:
        script = "from cowherd.cli.process import run; run(lambda: print('x') or 0)"
        done = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode != 0
    assert "No space left" in done.stderr


def test_a_program_without_standard_output_still_ends_as_it_should():
    done = python("import sys; sys.stdout = None; from cowherd.cli.process import run; run(lambda: 3)")
    assert done.returncode == 3


def test_leaving_by_system_exit_is_left_to_python():
    done = python(
        "import atexit, sys; from cowherd.cli.process import run; atexit.register(print, 'bye'); run(lambda: sys.exit(2))"
    )
    assert (done.returncode, done.stdout) == (2, "bye\n")
