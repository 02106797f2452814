"""What commands that change something say of where they looked."""

from __future__ import annotations

import json

import pytest

from cowherd.herd.lineage.book import surroundings
from tests.herd.lineage.book import layouts

pytestmark = pytest.mark.qemu


@pytest.fixture
def host(tmp_path):
    return layouts.nova(tmp_path / "host")


def test_directories_and_dependents_are_in_the_document(cowherd, host):
    code, out, _ = cowherd("seal", host.base, "--json")
    document = json.loads(out)
    assert code == 0
    assert {str(path.parent) for path in (host.base, host.first, host.second)} <= set(document["searched"])
    assert document["known_dependents"] == [str(host.first), str(host.second)]
    assert document["passed_over"] == []


def test_what_was_left_out_for_being_too_much_is_said(cowherd, host, monkeypatch):
    monkeypatch.setattr(surroundings, "MOST_ENTRIES", 1)
    code, _, err = cowherd("flatten", host.first)
    assert code == 0
    assert "were not looked for everywhere around, not in" in err
    assert "cowherd herd add" in err


def test_commands_that_only_look_say_nothing_of_it(cowherd, host, monkeypatch):
    monkeypatch.setattr(surroundings, "MOST_ENTRIES", 1)
    assert cowherd("verify", host.first)[2] == ""


def test_who_asks_for_it_is_told_where_any_command_looked_and_how_long_it_took(cowherd, host):
    code, out, err = cowherd("verify", host.first, "-v")
    assert (code, out) == cowherd("verify", host.first)[:2]
    places, *_, took = err.splitlines()
    assert places.startswith("cowherd: looked for overlays in ")
    assert str(host.base.parent) in places
    assert took.startswith("cowherd: took ")
