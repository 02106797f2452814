"""What a terminal shows: columns, windows, colours, progress."""

from __future__ import annotations

import io
import os
from types import SimpleNamespace

import pytest

from cowherd.cli.guard import output, screen
from cowherd.cli.guard.output import Report, progress, quiet, show, table
from cowherd.cli.guard.screen import columns, state, unpainted


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("vm01.qcow2", 10),
        ("├─ web", 6),
        ("母盘.qcow2", 10),
        ("\uff57\uff45\uff42", 6),
        ("cafe\u0301", 4),
        ("\u1112\u1161\u11ab", 2),  # a Korean syllable in three parts
        ("🐄", 2),
        ("❤", 1),
        ("❤\ufe0f", 2),
        ("\x1b[31mtorn\x1b[0m", 4),
        ("", 0),
    ],
)
def test_columns_are_those_of_a_terminal(text, width):
    assert columns(text) == width


def test_columns_of_a_table_stand_below_each_other_whatever_they_are_written_in():
    lines = table([("母盘", "a"), ("cafe\u0301", "b"), (state("torn"), "c"), ("plain", "d")])
    assert [columns(line) for line in lines] == [8] * 4
    assert [unpainted(line)[-3:] for line in lines] == ["  a", "  b", "  c", "  d"]


def test_what_does_not_fit_the_window_has_a_line_of_its_own(monkeypatch):
    monkeypatch.setattr(output, "window", lambda: 20)
    assert table([("ok", "web", "fine"), ("torn", "db", "more than the window takes")]) == [
        "ok    web  fine",
        "torn  db",
        "    more than the window takes",
    ]


def test_only_a_terminal_is_a_window(monkeypatch):
    assert screen.window() is None
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "33")
    assert screen.window() == 33


@pytest.mark.parametrize(
    ("choice", "environment", "painted"),
    [
        ("auto", {}, True),
        ("auto", {"NO_COLOR": "1"}, False),
        ("auto", {"NO_COLOR": ""}, True),
        ("auto", {"TERM": "dumb"}, False),
        ("never", {}, False),
        ("always", {"NO_COLOR": "1"}, True),
    ],
)
def test_states_are_painted_on_terminals_as_the_environment_wants_it(monkeypatch, choice, environment, painted):
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    show(Report({}, (state("torn"),)), as_json=False, colour=choice)
    assert terminal.getvalue() == ("\x1b[31mtorn\x1b[0m\n" if painted else "torn\n")


def test_what_is_read_by_a_program_is_not_painted(tmp_path, cowherd):
    assert "\x1b" not in cowherd("tree", tmp_path)[1]
    assert cowherd("tree", tmp_path, "--color", "purple")[0] == 2


def test_a_quiet_command_prints_no_text_but_its_errors_and_documents(tmp_path, cowherd, as_json):
    assert cowherd("tree", tmp_path, "-q") == (0, "", "")
    code, out, err = cowherd("clone", tmp_path / "nothing", tmp_path / "o", "--quiet")
    assert (code, out) == (1, "")
    assert "nothing" in err
    assert as_json("tree", tmp_path, "-q")[1]["images"] == []


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns, and a terminal on standard error."""
    monkeypatch.setattr(output, "sys", SimpleNamespace(stderr=Terminal()))  # between fixtures and tests pytest puts its own
    now = [0.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    return now


def last_line() -> str:
    return output.sys.stderr.getvalue().rpartition("\r")[2].removesuffix("\x1b[K")


def test_progress_tells_how_fast_it_is_and_how_long_it_takes(clock):
    update = progress("reading base.qcow2")
    clock[0] = 10.0
    update(100 << 20, 400 << 20)
    assert last_line() == "reading base.qcow2: 25 %, 10 MiB/s, 31 s left"
    clock[0] = 100.0
    update(100 << 20, 400 << 20)
    assert last_line() == "reading base.qcow2: 25 %, 1 MiB/s, 5 min 1 s left"
    update(400 << 20, 400 << 20)
    assert last_line() == ""


def test_progress_of_what_is_counted_has_no_bytes(clock):
    update = progress("comparing the files of vm", unit="files")
    clock[0] = 2.0
    update(500, 1000)
    assert last_line() == "comparing the files of vm: 50 %, 250 files/s, 3 s left"


def test_progress_fits_the_window(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    update = progress("reading 母盘母盘母盘母盘母盘.qcow2")
    clock[0] = 10.0
    update(100 << 20, 400 << 20)
    assert columns(last_line()) < 40
    assert last_line().startswith("reading")
    assert last_line().endswith("...: 25 %, 10 MiB/s, 31 s left")


def test_nobody_who_wants_quiet_sees_progress(clock):
    token = quiet.set(True)
    try:
        assert progress("reading") is None
    finally:
        quiet.reset(token)


def test_the_window_of_a_terminal_without_a_size_is_the_usual_one(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((0, 0)))
    assert screen.terminal_columns() == 80
