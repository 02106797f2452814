"""Command lines that are wrong, and the help that is given."""

from __future__ import annotations

import json

import pytest

from cowherd.cli.guard.arguments import Parser
from cowherd.cli.guard.main import COMMANDS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tre"], "there is no command 'tre'; did you mean tree?"),
        (["lst"], "there is no command 'lst'; did you mean cowherd tree?"),
        (["ls"], "there is no command 'ls'; that is: cowherd tree"),
        (["list", "--json"], "there is no command 'list'; that is: cowherd tree"),
        (["convert", "a", "b"], "there is no command 'convert'; that is: cowherd-img convert"),
        (["\x1b[2J"], "there is no command '\\x1b[2J'; 'cowherd help' lists them"),
        (["seal", "--shadw"], "there is no option '--shadw'; did you mean --shadow?"),
        (["seal", "--levl=readonly", "x"], "there is no option '--levl'; did you mean --level?"),
        (["seal", "--wholly-other"], "there is no option '--wholly-other'; 'cowherd seal --help' lists them"),
        (["seal"], "the following arguments are required: BASE; 'cowherd seal --help' explains it"),
        (["--json", "tree"], "the command comes first; as in: cowherd tree --json"),
        (["help", "tre"], "there is no command 'tre'; did you mean tree?"),
    ],
)
def test_a_mistyped_command_or_option_is_told_in_one_line_with_what_was_meant(cowherd, words, said):
    code, out, err = cowherd(*words)
    assert (code, err) == (2, f"cowherd: {said}\n")
    if "--json" in words:
        assert set(json.loads(out)["error"]) == {"kind", "message", "problem", "remedy"}


def test_an_option_behind_two_dashes_is_none(cowherd, tmp_path):
    code, _, err = cowherd("verify", "--", "--fulll")
    assert (code, "--fulll" in err, "option" in err) == (1, True, False)


@pytest.mark.parametrize("words", [["help"], ["help", "seal"]])
def test_help_is_what_the_option_prints(cowherd, words, capsys):
    def printed(*words):
        with pytest.raises(SystemExit) as stop:
            cowherd(*words)
        assert stop.value.code == 0
        return capsys.readouterr().out

    assert printed(*words) == printed(*words[1:], "--help")


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_fits_80_columns(cowherd, command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cowherd(*([command] if command else []), "--help")
    text = capsys.readouterr().out
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "  cowherd " in text or not command


def test_a_list_in_a_description_stays_one():
    items = ["keep  what is\n      there", "add DIR  a directory", "drifted: it is not as\nit was"]
    example = "example:\n  cowherd seal base.qcow2 " + 20 * "long "
    text = Parser("seal", "\n\n".join(("Does it.\nAt once.", "\n".join(items), example))).helping().format_help()
    assert (
        "Does it. At once.\n\nkeep  what is there\nadd DIR  a directory\ndrifted: it is not as it was\n\n" + example.rstrip()
        in text
    )
