from __future__ import annotations

import pytest

import cowherd
from cowherd.errors import HostFileError, InvalidRequest
from cowherd.herd.gate.gate import dependents_of
from cowherd.herd.lineage.book.config import ConfigUnclear, add_herd, herds, own_file, remove_herd
from tests.herd.qemu_herd import make_base, make_overlay, noise


def test_without_a_file_no_herd_is_named(host):
    assert herds() == []


def test_a_herd_is_named_once_and_taken_back(host):
    assert add_herd(host) == own_file()
    assert add_herd(host) is None
    assert herds() == [str(host)]
    remove_herd(host)
    assert herds() == []


def test_what_is_no_directory_is_not_named(host):
    with pytest.raises(HostFileError):
        add_herd(host / "none")
    with pytest.raises(InvalidRequest):
        remove_herd(host)


@pytest.mark.parametrize(
    "text",
    [
        '# ours\nherds = [\n  "/srv", # old\n]\n[watch]\nhook = "x = ["\n',
        'title = "herds = [1]"\nherds=["/srv"]\n',
        "",
        "\n[watch]\na = 1\n",
    ],
)
def test_other_lines_of_the_file_stay_as_they_are(host, tmp_path, text):
    file = tmp_path / "cowherd.toml"
    file.write_text(text)
    add_herd(host)
    assert str(host) in herds()
    kept = [line for line in text.splitlines() if line.startswith(("#", "[", "hook", "title", "a "))]
    assert [line for line in file.read_text().splitlines() if line.startswith(("#", "[", "hook", "title", "a "))] == kept


def test_what_cannot_be_edited_is_left_to_a_person(host, tmp_path):
    file = tmp_path / "cowherd.toml"
    file.write_text('"herds" = ["/srv"]\n')
    with pytest.raises(ConfigUnclear, match="by hand"):
        add_herd(host)
    assert file.read_text() == '"herds" = ["/srv"]\n'


@pytest.mark.parametrize(
    "text", ["herds = 1", 'herds = ["relative"]', "herds = [", "\xff", 'herds = ["/a\\u0000b"]', "a = " + "[" * 5000]
)
def test_a_file_that_makes_no_sense_is_an_error_that_names_it(host, tmp_path, text):
    (tmp_path / "cowherd.toml").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigUnclear, match=r"cowherd\.toml"):
        herds()


def test_the_environment_names_herds_too(host, monkeypatch):
    monkeypatch.setenv("COWHERD_HERD", f"{host}:{host}:")
    assert herds() == [str(host)]


@pytest.mark.qemu
def test_every_command_looks_in_herds_that_are_named(host):
    base = make_base(host / "b.qcow2", noise(65536))
    (host / "far" / "away" / "deep").mkdir(parents=True)
    overlay = make_overlay(host / "far" / "away" / "deep" / "o.qcow2", base)
    (host / "near").mkdir()
    own = make_base(host / "near" / "own.qcow2", noise(65536))
    add_herd(host / "far" / "away")
    assert dependents_of(base) == [overlay]
    assert {node.path for node in cowherd.tree([host / "near"]).nodes} == {own}
    assert cowherd.doctor([host / "near"]).images == 1


def test_a_named_herd_that_is_not_there_is_said(host, monkeypatch):
    monkeypatch.setenv("COWHERD_HERD", str(host / "unmounted"))
    found = cowherd.doctor([host]).findings
    assert [(finding.kind, finding.path) for finding in found] == [("unseen-place", host / "unmounted")]
