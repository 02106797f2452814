"""The progress line."""

from __future__ import annotations

import signal

import pytest

from cowherd.cli.progress import ProgressLine


def test_it_begins_at_0_ends_at_100_and_skips_small_steps(capsys):
    with ProgressLine(True, step=10.0) as progress:
        for done in range(0, 100, 4):
            progress.callback(done, 100)
        progress.finish()
    shown = capsys.readouterr().out.replace("    (", "").split("/100%)\r")
    assert shown == ["0.00", "0.00", "12.00", "24.00", "36.00", "48.00", "60.00", "72.00", "84.00", "96.00", "100.00", "\n"]


def test_it_does_not_reach_100_before_the_end(capsys):
    with ProgressLine(True) as progress:
        progress.callback(5, 5)
    assert "100.00" not in capsys.readouterr().out


def test_it_is_silent_unless_enabled(capsys):
    with ProgressLine(False) as progress:
        progress.callback(1, 2)
        progress.finish()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("enabled", [True, False])
def test_sigusr1_has_it_told_on_standard_error(capsys, enabled):
    before = signal.getsignal(signal.SIGUSR1)
    with ProgressLine(enabled) as progress:
        progress.callback(1, 8)
        signal.raise_signal(signal.SIGUSR1)
    assert capsys.readouterr().err == "    (12.50/100%)\n"
    assert signal.getsignal(signal.SIGUSR1) == before
