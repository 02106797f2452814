"""Events as lines of JSON."""

from __future__ import annotations

import json

import pytest

from cowherd.errors import HostFileError
from cowherd.herd.watch.reporting.jsonlines import JsonLines
from tests.herd.watch.reporting.events import event


def test_each_event_is_a_line_after_what_is_there(tmp_path):
    file, complaints = tmp_path / "events", []
    file.write_text("before\n")
    lines = JsonLines(str(file), complaints.append)
    lines.report(event())
    lines.report(event(blocks=1))
    lines.close()
    before, *written = file.read_text().splitlines()
    assert (before, [json.loads(line) for line in written]) == ("before", [event().to_json(), event(blocks=1).to_json()])
    assert complaints == []


def test_a_full_disk_is_told_once_and_ends_nothing():
    complaints = []
    lines = JsonLines("/dev/full", complaints.append)
    lines.report(event())
    lines.report(event())
    lines.close()
    assert complaints == ["events can't be written to /dev/full: No space left on device"]


def test_a_file_that_can_t_be_opened_again_leaves_the_old_one_in_use(tmp_path):
    file = tmp_path / "sub" / "events"
    file.parent.mkdir()
    lines = JsonLines(str(file), [].append)
    file.parent.rename(tmp_path / "moved")
    with pytest.raises(HostFileError):
        lines.reopen()
    lines.report(event())
    lines.close()
    assert (tmp_path / "moved" / "events").read_text().count("\n") == 1


def test_a_directory_that_is_not_there_is_told():
    with pytest.raises(HostFileError, match="Could not write events to"):
        JsonLines("/nowhere/events", [].append)
