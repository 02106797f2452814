"""What every command prints with --json is as docs/json.md and its schema say, and these are as the sources have it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cowherd.cli.documents.commands import DOCUMENTS, OF_EACH
from cowherd.cli.documents.progress import NoteLine, ProgressLine
from cowherd.cli.documents.schema import classes_in, fields_of, meanings_of
from cowherd.cli.documents.shared import Failure, Looked, Losses
from cowherd.cli.guard.main import COMMANDS, main
from tests.cli.invocations import INVOCATIONS, WITH_A_SERVER, XML, Invocation, fill
from tests.documents import check, check_document

ROOT = Path(__file__).parents[2]
CLASSES = classes_in([*(kind for kinds in DOCUMENTS.values() for kind in kinds), Failure, Looked, Losses, ProgressLine, NoteLine])


def run(name: str, *words: str, given: str = "", **how: bool) -> Invocation:
    return Invocation("cowherd", (name, *words), given=given, **how)


DOCUMENTS_OF_OPTIONS = {
    "--version": [run("--version")],
    "impact": [run("impact", "{base}", "--files", "--from", "{copy}", drift=True), run("impact", "{root}", drift=True)],
    "seal": [run("seal", "{base}", "{alone}"), run("seal", "{root}/nothing")],
    "repair": [run("repair", "{base}", "--preserve", "--dry-run", drift=True)],
    "verify": [run("verify", "--full", "--herd", "{root}", drift=True)],
    "doctor": [run("doctor", "--full", "{root}", drift=True), run("doctor", "{root}", sealed=False)],
    "hook": [
        run("hook", "install", "--root", "{root}"),
        run("hook", "status", "--root", "{root}"),
        run("hook", "uninstall", "--root", "{root}"),
        run("hook", "check", given=XML, drift=True),
    ],
    "herd": [run("herd", "add", "{root}"), run("herd", "remove", "{root}"), run("herd", "forget", "{root}")],
    "trash": [run("trash", "restore", "{two}"), run("trash", "empty", "{root}")],
    "move": [run("move", "--repair", "{two}")],
    "watch": [run("watch", "--install-units", "--unit-dir", "{root}/units", "{root}")],
    "merge": [run("merge", "{one}", "--dry-run"), run("merge", "{one}", "--strategy", "fork")],
    "promote": [run("promote", "{two}", "{new}", "--chained")],
    "run": [run("run", "--dry-run", "--", "{root}/qemu-system-x86_64", "-drive", "file.filename={one}", drift=True)],
    "delete": [run("delete", "--purge", "{two}")],
}
BEFORE = {
    ("trash", "restore"): [("delete", "{two}")],
    ("trash", "empty"): [("delete", "{two}")],
    ("herd", "remove"): [("herd", "add", "{root}")],
}
"""What has to be done before a command has something to say."""
RUNS = [one for one in INVOCATIONS if one.program == "cowherd" and one.words[0] != "run"]
RUNS += [one for those in DOCUMENTS_OF_OPTIONS.values() for one in those]


@pytest.fixture
def surroundings(monkeypatch, tmp_path):
    """Where neither a log nor a herd book of this user is touched."""
    for name in ("COWHERD_STATE", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("COWHERD_CONFIG", str(tmp_path / "cowherd.toml"))
    (tmp_path / "herd/units").mkdir(parents=True)
    return tmp_path / "herd"


def prepare(one: Invocation, root: Path) -> list[str]:
    words = one.prepare(root)
    for words_before in BEFORE.get(one.words[:2], ()):
        assert main([fill(word, root) for word in words_before]) == 0
    return words


@pytest.mark.parametrize("one", RUNS, ids=lambda one: " ".join(one.words))
def test_what_a_command_prints_is_as_the_schema_says(one, surroundings, monkeypatch, capsys):
    words = prepare(one, surroundings)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(one.given.encode())))
    capsys.readouterr()
    main([words[0], "--json", *words[1:]])
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    check_document(words[0], document)
    assert ("error" in document) == ("{root}/nothing" in one.words), document


def test_every_command_has_a_schema_and_is_tried():
    assert set(DOCUMENTS) == {*COMMANDS, "--version"}
    assert {*DOCUMENTS} - {one.words[0] for one in RUNS} == {name.removeprefix("cowherd ") for name in WITH_A_SERVER}
    assert set(OF_EACH) <= set(COMMANDS)


def test_a_key_that_the_schema_does_not_know_is_found():
    with pytest.raises(AssertionError, match="surprise"):
        check_document("herd", {"schema": 1, "herds": [], "surprise": 1})
    with pytest.raises(AssertionError, match="there is no schema of cowherd-nothing"):
        check_document("nothing", {})


def test_every_key_has_a_meaning():
    assert [
        (kind.__name__, set(fields_of(kind)) ^ set(meanings_of(kind)))
        for kind in CLASSES
        if fields_of(kind).keys() != meanings_of(kind).keys()
    ] == []
    assert len({kind.__name__ for kind in CLASSES}) == len(CLASSES), "two classes have one name"


def test_the_page_and_the_schema_are_what_the_script_writes(tmp_path):
    subprocess.run([sys.executable, ROOT / "scripts" / "write-json-page", tmp_path], check=True, timeout=120)
    for name in ("json.md", "json.schema.json"):
        assert (ROOT / "docs" / name).read_text() == (tmp_path / name).read_text(), "scripts/write-json-page writes it anew"


def test_progress_and_errors_are_lines_of_json_where_that_is_asked_for(surroundings, capsys):
    words = run("seal", "{alone}", "{root}/nothing").prepare(surroundings)
    capsys.readouterr()
    assert main([*words, "--json", "--progress", "json"]) == 1
    printed = capsys.readouterr()
    check_document("seal", json.loads(printed.out))
    lines = [json.loads(line) for line in printed.err.splitlines()]
    for line in lines:
        check("line", line)
    progress = [line for line in lines if line["type"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"] > 0
    assert progress[-1]["what"].startswith("sealing ")
    assert "nothing" in next(line["message"] for line in lines if line["type"] == "note")


@pytest.mark.parametrize("options", [["-q", "--progress=json"], ["--progress", "auto"]])
def test_no_line_of_progress_is_written_unasked(surroundings, capsys, options):
    words = run("seal", "{alone}").prepare(surroundings)
    capsys.readouterr()
    assert main([*words, *options]) == 0
    assert capsys.readouterr().err == ""
