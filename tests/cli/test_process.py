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


STOPPED = """\
import os, signal, sys, time
from cowherd.cli.process import run
class Tidied:
    def __enter__(self): pass
    def __exit__(self, *exc): {tidying}
class Stubborn:
    def __del__(self): os.kill(os.getpid(), signal.{signal})
def work():
    with Tidied():
        {how}
        for _ in range(100): time.sleep(0.1)
    return 0
run(work)
"""


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), signal.{signal})", "Stubborn()"], ids=["in a job", "in a destructor"])
@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_has_what_is_half_done_tidied_up_and_ends_without_a_traceback(how, signal):
    script = STOPPED.replace("{how}", how).replace("{signal}", signal).replace("{tidying}", "print('tidied')")
    done = python(script)
    expected = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}[signal]
    assert (done.returncode, done.stdout, done.stderr) == (expected, "tidied\n", "")


def test_a_signal_waits_until_a_module_is_loaded(tmp_path):
    loading = "import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.05); print('loaded')"
    (tmp_path / "slowly.py").write_text(loading)
    script = STOPPED.replace("{how}", f"sys.path.insert(0, {str(tmp_path)!r}); import slowly")
    done = python(script.replace("{signal}", "SIGTERM").replace("{tidying}", "print('tidied')"))
    assert (done.returncode, done.stdout, done.stderr) == (143, "loaded\ntidied\n", "")


def test_a_second_signal_does_not_disturb_the_tidying_up_unless_it_takes_long():
    kill = "os.kill(os.getpid(), signal.SIGINT)"
    script = STOPPED.replace("{how}", kill).replace("{signal}", "SIGINT")
    assert python(script.replace("{tidying}", f"{kill}; print('tidied')")).stdout == "tidied\n"
    impatient = python(script.replace("{tidying}", f"time.sleep(1.1); {kill}; print('tidied')"))
    assert (impatient.returncode, impatient.stdout, impatient.stderr) == (130, "", "")


def test_an_error_that_tells_of_the_interruption_is_shown_and_the_signal_decides_how_it_ends():
    script = (
        "import os, signal, sys; from cowherd.cli.process import run\ndef work():\n try: os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    done = python(script + " except KeyboardInterrupt: print('half done', file=sys.stderr)\n return 1\nrun(work)")
    assert (done.returncode, done.stderr) == (143, "half done\n")


def test_a_signal_that_was_ignored_stays_so():
    script = "import os, signal; from cowherd.cli.process import run; run(lambda: os.kill(os.getpid(), signal.SIGHUP) or 5)"
    done = subprocess.run(["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", sys.executable, "-c", script], check=False)
    assert done.returncode == 5
