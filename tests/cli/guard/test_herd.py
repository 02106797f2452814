from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    path = tmp_path / "config" / "cowherd.toml"
    monkeypatch.setenv("COWHERD_CONFIG", str(path))
    return path


def test_herds_are_named_listed_and_taken_back(cowherd, tmp_path, config):
    herd = tmp_path / "vms"
    herd.mkdir()
    assert cowherd("herd", "list") == (0, "no herd is named; 'cowherd herd add DIR' names one\n", "")
    assert cowherd("herd", "add", herd) == (0, f"{herd}: named in {config}\n", "")
    assert cowherd("herd", "add", herd) == (0, f"{herd}: named already\n", "")
    herd.rmdir()
    assert cowherd("herd", "list") == (0, f"{herd} (not there)\n", "")
    assert cowherd("herd", "remove", herd) == (0, f"{herd}: no longer named in {config}\n", "")


def test_as_documents(as_json, tmp_path, config):
    assert as_json("herd", "add", tmp_path) == (0, {"herd": str(tmp_path), "file": str(config)})
    assert as_json("herd", "list") == (0, {"herds": [str(tmp_path)]})
    assert as_json("herd", "remove", tmp_path) == (0, {"herd": str(tmp_path), "file": str(config)})
    assert as_json("herd", "forget", tmp_path) == (0, {"directory": str(tmp_path), "forgotten": 0})


@pytest.mark.parametrize("words", [["add"], ["list", "x"], ["remove"], ["forget"], ["add", "x", "y"], ["nothing"], []])
def test_what_makes_no_sense_is_usage(cowherd, words):
    code, out, err = cowherd("herd", *words)
    assert (code, out) == (2, "")
    assert err.startswith("cowherd: ")
    assert "cowherd herd" in err
