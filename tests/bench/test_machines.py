from __future__ import annotations

import re

import pytest

from bench.machines import main


@pytest.mark.qemu("qemu-system-x86_64")
def test_ps_is_measured_with_machines_that_are_awake_and_one_that_is_stopped(capsys):
    assert main(["--number", "2", "--runs", "1"]) == 0
    awake, stopped = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"2 machines: \d+\.\d\d s \(.*, 1 run\(s\)\)", awake)
    assert 5 <= float(re.fullmatch(r"with one of them stopped: (\d+\.\d\d) s .*", stopped)[1]) < 10
