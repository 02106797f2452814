"""The command that is run for events."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cowherd.errors import InvalidRequest
from cowherd.herd.watch.events import Kind, Level
from cowherd.herd.watch.reporting.hook import MAX_WAITING, Hook
from tests.herd.watch.reporting.events import event
from tests.waiting import is_running, wait_until


@pytest.fixture
def complaints() -> list[str]:
    return []


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "hook"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_it_gets_the_facts_as_json_and_the_main_ones_as_variables(tmp_path, complaints):
    hook = Hook(f"{script(tmp_path, f'cat > {tmp_path}/in; env > {tmp_path}/env')} 'a b'", 30, complaints.append)
    hook.report(event(blocks=3))
    hook.finish(30)
    hook.close()
    assert complaints == []
    assert json.loads((tmp_path / "in").read_text()) == event(blocks=3).to_json()
    lines = (tmp_path / "env").read_text().splitlines()
    assert {"COWHERD_EVENT=written", "COWHERD_LEVEL=warning", "COWHERD_PID=7", "COWHERD_COMMAND=dd"} <= set(lines)


def test_no_shell_sees_what_it_is_called_with(tmp_path, complaints):
    path = script(tmp_path, f'echo "$1" > {tmp_path}/first')
    hook = Hook(f"{path} '$(touch {tmp_path}/evil)'", 30, complaints.append)
    hook.report(event())
    hook.finish(30)
    hook.close()
    assert (tmp_path / "first").read_text() == f"$(touch {tmp_path}/evil)\n"
    assert not (tmp_path / "evil").exists()


def test_mere_information_does_not_run_it(tmp_path, complaints):
    hook = Hook("true", 30, complaints.append)
    hook.report(event(Kind.VERIFIED, Level.INFO))
    hook.report(event(Kind.INTACT, Level.NOTICE))
    hook.finish(30)
    hook.close()
    assert hook.runs == 1


def test_one_that_hangs_is_killed_with_its_children_and_the_next_event_is_told(tmp_path, complaints):
    path = script(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/pid; wait")
    hook = Hook(str(path), 0.3, complaints.append)
    hook.report(event())
    hook.report(event())
    hook.finish(30)
    hook.close()
    assert [complaint.split(": ", 1)[1] for complaint in complaints] == ["it was killed after 0.3 seconds"] * 2
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_running(pid), 5)
    assert (hook.runs, hook.failures) == (2, 2)


def test_reporting_does_not_wait_for_it_and_too_many_events_are_dropped(tmp_path, complaints):
    os.mkfifo(tmp_path / "gate")
    hook = Hook(str(script(tmp_path, f"cat {tmp_path}/gate")), 1000, complaints.append)
    for _ in range(MAX_WAITING + 10):
        hook.report(event())
    assert hook.dropped >= 9
    hook.close()


def test_a_failure_is_told_with_what_it_printed_escaped(tmp_path, complaints):
    hook = Hook(str(script(tmp_path, "printf 'no \\033[1m way'; exit 3")), 30, complaints.append)
    hook.report(event())
    hook.finish(30)
    hook.close()
    assert complaints[0].endswith(r"it ended with 3: 'no \x1b[1m way'")


def test_a_command_that_is_not_there_is_told(complaints):
    hook = Hook("/nowhere/to/be/found", 30, complaints.append)
    hook.report(event())
    hook.finish(30)
    hook.close()
    assert "it can't be run" in complaints[0]


@pytest.mark.parametrize("command", ["", "  ", "'open"])
def test_what_is_no_command_is_refused(command, complaints):
    with pytest.raises(InvalidRequest):
        Hook(command, 30, complaints.append)
