from __future__ import annotations

import json
import os

import pytest

from cowherd.cli.guard.main import main
from cowherd.cli.img.main import main as img
from cowherd.herd.merge.merge import merge
from cowherd.herd.records.journal import Journal
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20


@pytest.fixture
def herd(tmp_path, monkeypatch):
    """A directory, which is also the current one: a base, an overlay to merge, another one."""
    make_base(tmp_path / "base.qcow2", noise(MIB))
    for name in ("overlay.qcow2", "other.qcow2"):
        make_overlay(tmp_path / name, "base.qcow2")
    write(tmp_path / "overlay.qcow2", "write -P 1 0 128k")
    write(tmp_path / "other.qcow2", "write -P 2 0 64k")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cowherd(capsys):
    """Runs the command and returns (exit code, standard output, standard error)."""

    def run(*words: object, command=main) -> tuple[int, str, str]:
        capsys.readouterr()
        code = command([str(word) for word in words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def interrupted(herd):
    """The same herd, with a merge that was killed when it was about to change the base."""
    process = os.fork()
    if not process:
        Journal.advance = lambda self, phase: os._exit(0)
        try:
            merge("overlay.qcow2", strategy="preserve")
        finally:
            os._exit(1)
    assert os.waitpid(process, 0)[1] == 0
    return herd


def test_a_dry_run_tells_both_prices_and_what_would_be_done(cowherd, herd):
    code, out, err = cowherd("merge", "overlay.qcow2", "--dry-run")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "base.qcow2: 128 KiB change with the content of overlay.qcow2",
        "  a plain commit would show 64 KiB of it to other.qcow2",
        "preserve: 192 KiB to write to 2 files, about 0.1 s, chosen",
        f"fork: {out.splitlines()[3].split(': ')[1]}",
        "  64 KiB of old content to be written to other.qcow2",
        "nothing was changed (--dry-run)",
    ]


def test_a_merge_tells_what_it_did(cowherd, herd):
    before = content(herd / "other.qcow2")
    code, out, err = cowherd("merge", "overlay.qcow2", "--strategy", "preserve")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "base.qcow2: 128 KiB changed with the content of overlay.qcow2",
        "  a plain commit would have shown 64 KiB of it to other.qcow2",
        "  64 KiB of old content written to other.qcow2",
        "overlay.qcow2: merged, verified, removed",
    ]
    assert content(herd / "other.qcow2") == before
    assert not (herd / "overlay.qcow2").exists()


def test_a_fork_as_text(cowherd, herd):
    code, out, _ = cowherd("merge", "overlay.qcow2", "--strategy", "fork", "--new-base", "new.qcow2", "--keep", "empty")
    assert code == 0
    assert out.splitlines()[-2:] == [
        "  new base new.qcow2; base.qcow2 stayed as it is",
        "overlay.qcow2: merged, verified, emptied",
    ]


def test_a_merge_as_a_document(as_json, herd):
    code, document = as_json("merge", "overlay.qcow2", "--dry-run")
    assert code == 0
    assert set(document) == {
        *("overlay", "base", "between", "strategy", "keep", "changed", "changed_bytes", "size", "new_size", "new_base"),
        *("dependents", "writes", "unreadable", "costs", "done", "left"),
    }
    assert (document["strategy"], document["changed"], document["done"]) == ("preserve", [[0, 131072]], False)
    assert document["writes"] == [{"path": str(herd / "other.qcow2"), "bytes": 65536, "ranges": [[65536, 65536]]}]
    assert document["costs"]["preserve"]["written_bytes"] == 3 * 65536
    assert set(document["costs"]["fork"]) == {"written_bytes", "growth_bytes", "read_bytes", "files", "seconds"}


def test_wrong_words_are_wrong_usage(cowherd, herd):
    assert cowherd("merge", "base.qcow2")[0] == 2
    assert cowherd("merge", "overlay.qcow2", "--into", "other.qcow2")[0] == 2
    assert cowherd("merge", "overlay.qcow2", "--strategy", "magic")[0] == 2
    assert cowherd("merge", "overlay.qcow2", "--strategy", "fork", "--new-base", "/elsewhere")[0] == 2


def test_an_interrupted_merge_is_told_and_refuses_changes_with_3(cowherd, interrupted):
    code, out, _ = cowherd("verify")
    assert code == 4
    assert out.count("merge-interrupted") == 3
    assert "'cowherd recover .'" in out
    code, _, err = cowherd("clone", "base.qcow2", "new.qcow2")
    assert (code, "cowherd recover" in err) == (3, True)
    code, out, _ = cowherd("clone", "base.qcow2", "new.qcow2", "--json")
    assert json.loads(out)["error"]["kind"] == "MergePending"
    code, _, err = cowherd("cowherd-img", "info", "base.qcow2", command=img)
    assert (code, "'cowherd recover'" in err) == (0, True)
    assert cowherd("cowherd-img", "commit", "other.qcow2", command=img)[0] == 3


def test_recover_says_how_each_merge_ended(cowherd, interrupted):
    code, out, err = cowherd("recover")
    assert (code, out, err) == (0, "the merge of overlay.qcow2 into base.qcow2: taken back\n", "")
    assert cowherd("verify")[0] == 0
    assert cowherd("recover")[:2] == (0, "no merge was interrupted\n")


def test_recover_as_a_document(as_json, interrupted):
    assert as_json("recover", interrupted) == (
        0,
        {
            "merges": [
                {
                    "journal": str(interrupted / "base.qcow2.merge"),
                    "overlay": str(interrupted / "overlay.qcow2"),
                    "base": str(interrupted / "base.qcow2"),
                    "outcome": "taken back",
                    "left": [],
                    "error": None,
                }
            ]
        },
    )


def test_a_recovery_that_fails_exits_with_the_errors_code(cowherd, interrupted):
    (interrupted / "base.qcow2.merge").write_bytes(b"cowmerge, but no journal, though as long as one")
    code, out, err = cowherd("recover")
    assert (code, out) == (1, "base.qcow2.merge: failed\n")
    assert "damaged" in err
