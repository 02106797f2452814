"""Several images in one command line, and directories in place of the images under them."""

from __future__ import annotations

import json
import os

import pytest

from tests.herd.qemu_herd import make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.fixture
def herd(tmp_path, monkeypatch):
    """Two bases in two directories, each with an overlay beside it, and an image that stands alone."""
    for number, name in enumerate(("one", "two/deeper")):
        (tmp_path / name).mkdir(parents=True)
        make_base(tmp_path / name / "base", noise(1 << 20, seed=number))
        make_overlay(tmp_path / name / "overlay", "base")
    make_base(tmp_path / "two" / "alone", noise(1 << 20, seed=7))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(out: str) -> list[str]:
    return sorted({line.partition(":")[0] for line in out.splitlines()})


def test_a_directory_stands_for_the_bases_under_it_when_it_is_sealed(cowherd, herd):
    code, out, err = cowherd("seal", ".")
    assert (code, err, named(out)) == (0, "", ["one/base", "two/deeper/base"])
    code, out, _ = cowherd("verify", "two")
    assert (code, sorted(line.split() for line in out.splitlines())) == (
        0,
        [
            ["ok", "two/deeper/base"],
            ["ok", "two/deeper/overlay", *["not", "bound", "to", "its", "base"]],
            ["unsealed", "two/alone"],
        ],
    )


def test_what_is_sealed_in_a_directory_is_compared_repaired_and_unsealed(cowherd, herd):
    cowherd("seal", "one/base", "two/deeper/base")
    write(herd / "two/deeper/base", "write -P 3 0 64k")
    code, out, _ = cowherd("impact", ".", "--json")
    changed = {os.path.relpath(one["base"], herd): one["changed_bytes"] for one in json.loads(out)["images"]}
    assert (code, changed) == (4, {"one/base": 0, "two/deeper/base": 65536})
    code, out, err = cowherd("repair", ".")
    assert (code, named(out)) == (4, ["one/base"])
    assert "two/deeper/base" in err
    code, out, err = cowherd("unseal", ".", "--json")
    assert (code, [one["error"]["kind"] for one in json.loads(out)["images"]]) == (3, 2 * ["UnsealRefused"])


def test_of_several_each_is_done_and_the_worst_exit_code_counts(cowherd, herd):
    code, out, err = cowherd("seal", "one/base", "not-there", "two/alone", "--json")
    kinds = ["error" in one for one in json.loads(out)["images"]]
    assert (code, kinds) == (1, [False, True, False])
    assert err == "cowherd: Could not open 'not-there': No such file or directory\n"


def test_an_image_that_two_arguments_lead_to_is_done_once(cowherd, herd):
    code, out, _ = cowherd("seal", "one", "one/base", ".")
    assert (code, out.count("one/base")) == (0, 1)


def test_one_image_gives_the_document_of_one(cowherd, herd):
    code, out, _ = cowherd("seal", "one/base", "--json")
    assert (code, json.loads(out)["image"]) == (0, str(herd / "one/base"))


def test_a_directory_without_images_has_none(cowherd, tmp_path):
    (tmp_path / "empty").mkdir()
    for command in ("seal", "unseal", "impact", "repair", "inspect", "verify", "tree", "status", "show"):
        assert cowherd(command, tmp_path / "empty") == (0, "no images\n", "")


def test_inspect_takes_every_image_of_directories(cowherd, herd):
    code, out, _ = cowherd("inspect", "one", "--herd", "two")
    assert code == 4
    verdicts = [line for line in out.splitlines() if "policy untrusted" in line]
    assert [line.split(":")[1].strip().split()[0] for line in verdicts] == ["safe", "refused", "safe", "safe", "refused"]


def test_a_directory_that_is_not_there_is_no_place_to_move_to(cowherd, herd):
    code, out, err = cowherd("move", "two/alone", "nowhere/")
    assert (code, out, err) == (1, "", "cowherd: Could not move to 'nowhere': there is no such directory\n")
    assert (herd / "two/alone").exists()


@pytest.mark.parametrize("command", ["tree", "status", "log", "recover", "ps", "verify", "doctor", "gc"])
def test_a_directory_that_is_not_there_is_an_error_wherever_one_is_named(cowherd, tmp_path, command):
    for words in ([tmp_path / "nowhere"], ["--herd", tmp_path / "nowhere"]):
        code, _, err = cowherd(command, *words)
        assert code == 1
        assert "nowhere" in err
