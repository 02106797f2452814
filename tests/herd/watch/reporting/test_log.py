"""Lines for the journal and for everybody else."""

from __future__ import annotations

import io
import json
import os

from cowherd.herd.watch.events import Kind, Level
from cowherd.herd.watch.reporting.log import Log
from tests.herd.watch.reporting.events import event

LINE = r"written: /srv/a\x0ab.qcow2: written to; by dd (pid 7, user root, cron.service)"


def test_without_a_journal_a_line_has_the_time_and_the_level():
    stream = io.StringIO()
    Log(stream).report(event())
    time, line = stream.getvalue().split(" ", 1)
    assert (len(time), line) == (25, f"warning: {LINE}\n")


def test_for_the_journal_a_line_has_the_level_as_a_number(tmp_path, monkeypatch):
    with (tmp_path / "journal").open("w+") as stream:
        info = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{info.st_dev}:{info.st_ino}")
        Log(stream).report(event())
        Log(stream).report(event(Kind.DRIFTED, Level.ERROR))
        stream.seek(0)
        assert stream.read().splitlines() == [f"<4>{LINE}", f"<3>{LINE.replace('written', 'drifted', 1)}"]


def test_a_stream_that_is_not_the_journal_gets_no_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    with (tmp_path / "file").open("w+") as stream:
        Log(stream).report(event())
        stream.seek(0)
        assert "<4>" not in stream.read()


def test_quiet_leaves_out_what_is_mere_information():
    stream = io.StringIO()
    Log(stream, verbose=False).report(event(Kind.VERIFIED, Level.INFO))
    Log(stream, verbose=False).report(event(Kind.INTACT, Level.NOTICE))
    assert stream.getvalue().count("\n") == 1


def test_an_event_as_json_has_the_keys_that_all_have_and_its_own():
    facts = json.loads(json.dumps(event(blocks=3).to_json()))
    assert facts == {
        "event": "written",
        "level": "warning",
        "time": "2026-01-02T03:04:05.000+00:00",
        "base": "/srv/a\nb.qcow2",
        "message": "written to",
        "processes": [
            {
                "pid": 7,
                "command": "dd",
                "command_line": "dd of=x",
                "user": "root",
                "unit": "cron.service",
                "domain": None,
                "gone": False,
                "hint": False,
            }
        ],
        "blocks": 3,
    }
