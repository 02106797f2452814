from __future__ import annotations

import os

import pytest

from tests.herd.qemu_herd import content, make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
CONTENT = noise(MIB)


@pytest.fixture
def herd(tmp_path, monkeypatch):
    """A directory, which is also the current one, with an unsealed base and an overlay that QEMU made."""
    make_base(tmp_path / "base.qcow2", CONTENT)
    make_overlay(tmp_path / "o.qcow2", "base.qcow2")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_doctor_exits_with_0_for_notes_and_says_what_to_do(cowherd, herd):
    code, out, _ = cowherd("doctor")
    assert code == 0
    assert out == (
        "note: unsealed-base: base.qcow2: 1 overlay stands on it, and nothing records what it holds\n"
        f"    cowherd seal --level readonly --bind {herd}/base.qcow2 --herd {herd}\n"
        "2 images: nothing wrong, 1 note\n"
        "neither content nor all tables were read; --full does\n"
    )


def test_doctor_exits_with_4_when_something_is_wrong(cowherd, as_json, herd):
    (herd / "base.qcow2").unlink()
    code, out, _ = cowherd("doctor", herd)
    assert code == 4
    assert out.startswith(f"missing-base: o.qcow2: its base {herd}/base.qcow2 can't be followed")
    code, document = as_json("doctor", "--full")
    assert (code, document["healthy"], document["full"], document["images"]) == (4, False, True, 1)
    assert document["findings"][0] | {"detail": ""} == {
        "kind": "missing-base",
        "note": False,
        "path": str(herd / "o.qcow2"),
        "detail": "",
        "remedy": [],
    }


def test_doctor_escapes_names_and_quotes_them_in_remedies(cowherd, herd):
    os.rename("o.qcow2", "o \x1b[31m.qcow2")
    cowherd("seal", "base.qcow2", "--level", "readonly")
    _, out, _ = cowherd("doctor")
    assert "\x1b" not in out
    assert "'" in out.splitlines()[1]


def test_bind_seals_and_binds(cowherd, as_json, herd):
    code, out, _ = cowherd("bind", ".")
    assert (code, out) == (0, "o.qcow2: bound to base.qcow2, which was sealed\n")
    assert cowherd("bind", ".")[:2] == (0, "nothing to bind\n")
    code, document = as_json("bind", "o.qcow2")
    assert (code, document["overlays"][0]["bound"], document["overlays"][0]["sealed_now"]) == (0, True, False)


def test_bind_exits_with_the_code_of_what_went_wrong(cowherd, herd):
    code, _, err = cowherd("bind", "o.qcow2", "--no-seal")
    assert (code, "is not sealed" in err) == (1, True)
    cowherd("bind", "o.qcow2")
    cowherd("unseal", "--force", "base.qcow2")
    write(herd / "base.qcow2", "write -P 1 0 64k")
    code, _, err = cowherd("bind", "o.qcow2")
    assert (code, "made on other content" in err) == (4, True)


def test_move_tells_whom_it_rewrote(cowherd, as_json, herd):
    (herd / "bases").mkdir()
    code, out, _ = cowherd("move", "base.qcow2", "bases", "--dry-run")
    assert (code, out.splitlines()[-1]) == (0, "nothing was changed (--dry-run)")
    code, out, _ = cowherd("move", "base.qcow2", "bases")
    assert (code, out) == (0, "base.qcow2 is now bases/base.qcow2\n  o.qcow2 names it there\n")
    assert content(herd / "o.qcow2") == CONTENT
    code, document = as_json("rename", "bases/base.qcow2", "b.qcow2", "--herd", ".")
    assert (code, document["overlays"], document["done"]) == (0, [str(herd / "o.qcow2")], True)
    assert content(herd / "o.qcow2") == CONTENT


@pytest.mark.parametrize("words", [("move", "base.qcow2"), ("rename", "base.qcow2", "a/b"), ("rename", "base.qcow2", "..")])
def test_moving_with_the_wrong_names_is_wrong_usage(cowherd, herd, words):
    assert cowherd(*words)[0] == 2


def test_move_repair_finds_a_base_and_exits_with_4_where_it_does_not(cowherd, as_json, herd):
    assert cowherd("move", "--repair", ".")[:2] == (0, "nothing to repair\n")
    cowherd("bind", ".")
    os.rename("base.qcow2", "renamed")
    code, document = as_json("move", "--repair", "o.qcow2", "--dry-run")
    assert (code, document["done"], document["overlays"][0]["base"]) == (0, False, str(herd / "renamed"))
    code, out, _ = cowherd("move", "--repair", ".")
    assert (code, out) == (0, "o.qcow2: stands on renamed, found by its content\n")
    (herd / "renamed").unlink()
    code, _, err = cowherd("move", "--repair", ".")
    assert (code, "no image here holds" in err) == (4, True)


def test_flatten_says_what_it_wrote(cowherd, as_json, herd):
    code, out, _ = cowherd("flatten", "o.qcow2", "--dry-run")
    assert (code, out) == (0, "o.qcow2: up to 1 MiB to be copied; nothing was changed (--dry-run)\n")
    code, document = as_json("flatten", "o.qcow2")
    assert (code, document) == (
        0,
        {"overlay": str(herd / "o.qcow2"), "base": None, "read_bytes": MIB, "written_bytes": MIB, "done": True},
    )
    assert cowherd("flatten", "o.qcow2")[1] == "o.qcow2: stands alone; 0 B written\n"


def test_retarget_says_what_it_wrote(cowherd, as_json, herd):
    make_base(herd / "new.qcow2", CONTENT[: MIB // 2] + bytes(MIB // 2))
    code, out, _ = cowherd("retarget", "o.qcow2", "--onto", "new.qcow2")
    assert (code, out) == (0, "o.qcow2: stands on new.qcow2; 512 KiB written\n")
    assert content(herd / "o.qcow2") == CONTENT
    code, document = as_json("retarget", "o.qcow2", "--onto", "base.qcow2", "--dry-run")
    assert (code, document["overlays"][0]["done"]) == (0, False)


def test_delete_and_trash_go_there_and_back(cowherd, as_json, herd):
    code, out, err = cowherd("delete", "base.qcow2")
    assert (code, out) == (3, "")
    assert "o.qcow2" in err
    code, out, _ = cowherd("delete", "o.qcow2")
    assert (code, out) == (0, "o.qcow2: in the trash; 'cowherd trash restore o.qcow2' brings it back\n")
    code, out, _ = cowherd("trash", "list")
    assert (code, out.split()[-1]) == (0, "o.qcow2")
    code, document = as_json("trash", "list", herd)
    assert (code, document["images"][0]["path"]) == (0, str(herd / "o.qcow2"))
    assert cowherd("trash", "restore", "o.qcow2")[:2] == (0, "o.qcow2: restored\n")
    assert cowherd("trash", "list")[1] == "the trash is empty\n"
    assert content(herd / "o.qcow2") == CONTENT


def test_restoring_tells_of_a_base_that_is_missing(cowherd, herd):
    cowherd("delete", "o.qcow2", "base.qcow2")
    code, _, err = cowherd("trash", "restore", "o.qcow2")
    assert (code, "base.qcow2" in err) == (0, True)


def test_trash_empty_is_refused_with_3_while_an_overlay_waits(cowherd, as_json, herd):
    code, document = as_json("delete", "--force", "base.qcow2")
    assert (code, document["deleted"][0]["freed_bytes"]) == (0, 0)
    assert cowherd("trash", "empty")[0] == 3
    code, document = as_json("trash", "empty", "--force", "--dry-run")
    assert (code, document["done"], len(document["images"])) == (0, False, 1)
    assert cowherd("trash", "empty", "--force")[1].startswith("base.qcow2: removed, ")


@pytest.mark.parametrize("words", [("trash",), ("trash", "burn"), ("trash", "restore")])
def test_trash_without_a_sensible_action_is_wrong_usage(cowherd, herd, words):
    assert cowherd(*words)[0] == 2


def test_delete_purges_when_asked(cowherd, herd):
    code, out, _ = cowherd("delete", "--purge", "o.qcow2")
    assert (code, out.startswith("o.qcow2: deleted, ")) == (0, True)
    assert not (herd / ".cowherd-trash").exists()


def test_gc_lists_and_cleans(cowherd, as_json, herd):
    assert cowherd("gc")[:2] == (0, "nothing to remove\n")
    cowherd("delete", "o.qcow2")
    unfinished = herd / ".cowherd-0123456789abcdef"
    unfinished.write_bytes(b"x")
    os.utime(unfinished, (0, 0))
    code, out, _ = cowherd("gc", "--clean")
    assert (code, out.splitlines()[:2]) == (
        0,
        [f"leftover: {unfinished.name}: 4 KiB, a file that was never finished", "    removed"],
    )
    code, document = as_json("gc", ".")
    assert (code, [one["kind"] for one in document["garbage"]]) == (0, ["trashed"])


def test_promote_copies_or_chains(cowherd, as_json, herd):
    code, out, _ = cowherd("promote", "o.qcow2", "golden.qcow2")
    assert (code, out) == (0, "golden.qcow2: a base of 1 MiB, sealed, readonly\n")
    code, document = as_json("promote", "o.qcow2", "chained.qcow2", "--chained", "--level", "recorded")
    assert (code, document["overlay"], document["level"]) == (0, str(herd / "o.qcow2"), "recorded")
    assert content(herd / "o.qcow2") == content(herd / "golden.qcow2") == CONTENT
    assert cowherd("promote", "o.qcow2", "x", "--chained", "--compress")[0] == 2
    assert cowherd("promote", "o.qcow2", "golden.qcow2")[0] == 1
