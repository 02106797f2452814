"""The catalog as the guard's commands show it."""

from __future__ import annotations

import json

import pytest

from bench.herds import header, make_herd, write_image
from cowherd.cli.guard.main import main
from cowherd.herd.lineage.catalog import catalog
from tests.herd.lineage.catalog.watching import TICK_NS, counted_reads, settle


@pytest.fixture
def herd(tmp_path, monkeypatch):
    monkeypatch.setenv("COWHERD_CATALOG", str(tmp_path / "catalog"))
    monkeypatch.setattr(catalog, "SETTLED_NS", TICK_NS)
    make_herd(tmp_path / "herd", 300)
    settle()
    return tmp_path / "herd"


@pytest.mark.parametrize("command", ["tree", "doctor", "gc"])
def test_a_command_knows_what_another_has_read_and_rescan_reads_it_anew(herd, command, capsys):
    assert main(["tree", "--json", str(herd)]) == 0
    with counted_reads() as read:
        main([command, str(herd)])
    assert read == []
    with counted_reads() as read:
        main([command, "--rescan", str(herd)])
    assert len(read) == 300


def test_the_answers_are_the_same(herd, capsys):
    printed = []
    for words in (["tree", str(herd)], ["tree", str(herd)], ["tree", "--rescan", str(herd)]):
        assert main(words) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2]
    assert printed[0].count("\n") == 301


def test_doctor_says_where_it_is(herd, tmp_path, capsys):
    main(["doctor", str(herd)])
    assert f"are known from {tmp_path / 'catalog'}; --rescan reads them anew" in capsys.readouterr().out
    main(["doctor", "--json", str(herd)])
    assert json.loads(capsys.readouterr().out)["catalog"] == str(tmp_path / "catalog")


def test_the_gate_sees_an_overlay_that_was_made_since(herd, capsys):
    main(["tree", str(herd)])
    lonely = herd / "00000" / "image-000299.qcow2"
    write_image(herd / "00000" / "new", header("image-000299.qcow2"))
    assert main(["delete", str(lonely)]) == 3
    assert str(herd / "00000" / "new") in capsys.readouterr().err
    assert lonely.exists()
