from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cowherd.cli.guard.main import COMMANDS, main
from cowherd.herd.records.sealplace import is_sealed
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, qemu_img, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
CONTENT = noise(MIB)


@pytest.fixture
def herd(tmp_path, monkeypatch):
    """A directory, which is also the current one, with an unsealed base."""
    make_base(tmp_path / "base.qcow2", CONTENT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    printed = capsys.readouterr().out
    assert stop.value.code == 0
    assert f"example:\n  cowherd {command} " in printed
    assert "--json" in printed


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in COMMANDS)


def test_the_version_is_told(cowherd):
    code, out, _ = cowherd("--version")
    assert (code, out.split()[0].rstrip(",")) == (0, "cowherd")


@pytest.mark.parametrize(
    "words", [[], ["nonsense"], ["--nonsense"], ["seal"], ["clone", "a", "b", "--size", "much"], ["verify", "--refresh"]]
)
def test_wrong_usage_exits_with_2_and_says_so_on_standard_error(cowherd, words):
    code, out, err = cowherd(*words)
    assert (code, out) == (2, "")
    assert err.startswith("cowherd: ")


def test_wrong_usage_is_a_document_too(as_json):
    code, document = as_json("seal")
    assert (code, document["exit_code"], document["error"]["kind"]) == (2, 2, "UsageError")


def test_a_failure_is_a_document_too(as_json, herd):
    code, document = as_json("impact", "base.qcow2")
    assert code == document["exit_code"] == 1
    assert document["error"]["kind"] == "NotSealed"
    assert document["error"]["image"] == str(herd / "base.qcow2")


@pytest.mark.parametrize("command", ["seal", "unseal", "impact", "repair", "verify"])
def test_an_image_that_is_not_there_exits_with_1(cowherd, herd, command):
    code, out, err = cowherd(command, "none.qcow2")
    assert (code, out) == (1, "")
    assert "No such file or directory" in err


def test_clone_makes_a_bound_overlay_and_says_so(cowherd, herd):
    code, out, _ = cowherd("clone", "base.qcow2", "o.qcow2", "--size", "2M")
    assert code == 0
    assert out == "base.qcow2: sealed\no.qcow2: an overlay of 2 MiB on base.qcow2, bound to its seal\n"
    assert content(herd / "o.qcow2") == CONTENT + bytes(MIB)


def test_clone_as_a_document(as_json, herd):
    code, document = as_json("clone", "base.qcow2", "o.qcow2")
    digest = document.pop("content_digest")
    assert (code, len(digest)) == (0, 64)
    assert document == {
        "overlay": str(herd / "o.qcow2"),
        "base": str(herd / "base.qcow2"),
        "backing_file": "base.qcow2",
        "backing_format": "qcow2",
        "size": MIB,
        "bound": True,
        "sealed_now": True,
    }


def test_clone_without_sealing(cowherd, herd):
    code, out, _ = cowherd("clone", "base.qcow2", "o.qcow2", "--no-seal")
    assert code == 0
    assert "not bound" in out
    assert not is_sealed(herd / "base.qcow2")


def test_seal_tells_digest_and_level(cowherd, herd):
    code, out, _ = cowherd("seal", "base.qcow2", "--level", "readonly")
    assert code == 0
    assert out.startswith("base.qcow2: sealed, 1 MiB, content ")
    assert "readonly" in out
    assert (herd / "base.qcow2").stat().st_mode & 0o222 == 0


def test_seal_as_a_document(as_json, herd):
    make_overlay(herd / "o.qcow2", "base.qcow2")
    code, document = as_json("seal", "base.qcow2", "--bind")
    assert code == 0
    assert document["bound"] == [str(herd / "o.qcow2")]
    assert (document["level"], document["wanted_level"], document["generation"], document["anew"]) == (
        "recorded",
        "recorded",
        1,
        True,
    )
    assert document["seal"] == str(herd / "base.qcow2.seal")


def test_unseal_is_refused_with_3_while_overlays_depend_on_it(cowherd, as_json, herd):
    cowherd("clone", "base.qcow2", "o.qcow2")
    code, _, err = cowherd("unseal", "base.qcow2")
    assert code == 3
    assert "o.qcow2" in err
    code, document = as_json("unseal", "base.qcow2")
    assert (code, document["error"]["dependents"]) == (3, [str(herd / "o.qcow2")])
    code, out, _ = cowherd("unseal", "--force", "base.qcow2")
    assert (code, out) == (0, "base.qcow2: unsealed\n")


def test_unseal_as_a_document(cowherd, as_json, herd):
    cowherd("seal", "base.qcow2")
    code, document = as_json("unseal", "base.qcow2")
    assert (code, document) == (0, {"image": str(herd / "base.qcow2"), "seal": str(herd / "base.qcow2.seal")})


def test_verify_exits_with_0_while_all_is_fine_and_4_when_not(cowherd, as_json, herd):
    cowherd("clone", "base.qcow2", "o.qcow2")
    assert cowherd("verify")[:2] == (0, "ok  base.qcow2\nok  o.qcow2\n")
    write(herd / "base.qcow2", "write -P 1 0 64k")
    code, out, _ = cowherd("verify", "o.qcow2")
    assert code == 4
    assert [line.split()[:2] for line in out.splitlines()] == [["touched", "base.qcow2"], ["touched", "o.qcow2"]]
    code, document = as_json("verify", "--full")
    assert (code, document["fine"]) == (4, False)
    assert document["images"][0] == {
        "path": str(herd / "base.qcow2"),
        "status": "drifted",
        "detail": "blocks with 65536 bytes differ from what was sealed",
        "sealed": True,
        "certain": True,
        "base": None,
        "changed_bytes": 65536,
    }


def test_verify_refreshes_only_when_asked(cowherd, herd):
    cowherd("seal", "base.qcow2")
    os.utime("base.qcow2")
    assert cowherd("verify", "--full")[0] == 0
    assert cowherd("verify")[0] == 4
    assert cowherd("verify", "--full", "--refresh")[0] == 0
    assert cowherd("verify")[0] == 0


def test_impact_as_a_document_has_exactly_the_promised_keys(cowherd, as_json, herd):
    cowherd("clone", "base.qcow2", "o.qcow2")
    write(herd / "o.qcow2", "write -P 1 0 64k")
    write(herd / "base.qcow2", "write -P 2 0 128k")
    code, document = as_json("impact", "base.qcow2")
    assert code == 4
    assert document == {
        "base": str(herd / "base.qcow2"),
        "changed": [[0, 131072]],
        "changed_bytes": 131072,
        "overlays": [
            {
                "path": str(herd / "o.qcow2"),
                "verdict": "torn",
                "exposed": [[65536, 65536]],
                "shielded": [[0, 65536]],
                "overall": "torn",
                "snapshots": [],
                "running": [],
            }
        ],
        "running_overlays": 0,
        "hidden_machines": 0,
    }


def test_impact_as_text(cowherd, herd):
    cowherd("clone", "base.qcow2", "o.qcow2")
    assert cowherd("impact", "base.qcow2")[:2] == (0, "base.qcow2: its content is as it was\n")
    write(herd / "base.qcow2", "write -P 2 0 128k")
    code, out, _ = cowherd("impact", "base.qcow2")
    assert code == 4
    assert out.splitlines() == [
        "base.qcow2: 128 KiB changed, in 1 range",
        "  0x0 to 0x20000 (128 KiB)",
        "synchronised  o.qcow2  128 KiB exposed, 0 B shielded",
        "no machine is seen on the 1 overlay that is not intact",
    ]


@pytest.fixture
def snapshot(cowherd, herd):
    """A sealed base that changed where its overlay has written since its snapshot."""
    cowherd("clone", "base.qcow2", "vm.qcow2")
    qemu_img("snapshot", "-c", "before", "vm.qcow2")
    write(herd / "vm.qcow2", "write -P 9 0 128k")
    cowherd("unseal", "base.qcow2", "--force")
    cowherd("seal", "base.qcow2", "--bind")
    write(herd / "base.qcow2", "write -P 7 0 128k")


def test_impact_judges_the_internal_snapshots_of_an_overlay(cowherd, as_json, snapshot):
    _, document = as_json("impact", "base.qcow2")
    (overlay,) = document["overlays"]
    assert (overlay["verdict"], overlay["overall"]) == ("intact", "synchronised")
    assert overlay["snapshots"] == [
        {"id": "1", "name": "before", "verdict": "synchronised", "exposed": [[0, 131072]], "shielded": []}
    ]
    code, out, _ = cowherd("impact", "base.qcow2")
    assert code == 4
    assert out.splitlines()[-3:-1] == [
        "intact        vm.qcow2                    0 B exposed, 128 KiB shielded",
        "synchronised  vm.qcow2 (snapshot before)  128 KiB exposed, 0 B shielded",
    ]


def test_impact_on_files_says_that_it_does_not_look_into_snapshots(cowherd, snapshot):
    _, out, err = cowherd("impact", "base.qcow2", "--files")
    assert "(snapshot before)" in out
    assert "--files does not look into them" in err


def test_a_repair_that_would_change_what_a_snapshot_shows_is_refused_with_its_name(cowherd, as_json, herd, snapshot):
    before = (herd / "vm.qcow2").read_bytes(), (herd / "base.qcow2").read_bytes()
    code, document = as_json("repair", "base.qcow2", "--preserve")
    assert (code, document["error"]["kind"]) == (3, "SnapshotsWouldChange")
    assert document["error"]["snapshots"] == [{"path": str(herd / "vm.qcow2"), "name": "before"}]
    assert "'before' of vm.qcow2" in document["error"]["message"]
    assert "without --preserve" in document["error"]["message"]
    assert ((herd / "vm.qcow2").read_bytes(), (herd / "base.qcow2").read_bytes()) == before


def test_impact_against_an_older_copy(cowherd, herd, tmp_path_factory):
    old = make_base(tmp_path_factory.mktemp("old") / "old.qcow2", noise(MIB, 3))
    assert cowherd("impact", "base.qcow2", "--against", old)[0] == 4


def test_repair_says_what_it_would_do_and_does_it(cowherd, as_json, herd, tmp_path_factory):
    donor = make_base(tmp_path_factory.mktemp("donor") / "copy.raw", CONTENT, format="raw")
    cowherd("clone", "base.qcow2", "o.qcow2")
    write(herd / "base.qcow2", "write -P 2 0 128k")
    code, out, _ = cowherd("repair", "base.qcow2", "--from", donor, "--dry-run")
    assert (code, out.splitlines()[-1]) == (0, "nothing was changed (--dry-run)")
    code, out, err = cowherd("repair", "base.qcow2")
    assert (code, "--from" in err) == (4, True)
    code, document = as_json("repair", "base.qcow2", "--from", donor)
    assert code == 0
    assert sorted(document) == sorted(
        [
            "base",
            "changed",
            "changed_bytes",
            "done",
            "donors",
            "gone",
            "left",
            "preserve",
            "sealed_size",
            "size",
            "writes",
            "zero_bytes",
        ]
    )
    assert document["donors"] == [{"path": str(donor), "bytes": 131072}]
    assert cowherd("repair", "base.qcow2")[:2] == (0, "base.qcow2: its content is as sealed; nothing to repair\n")
    assert content(herd / "base.qcow2") == CONTENT


def test_repair_can_preserve_the_overlays(cowherd, herd, tmp_path_factory):
    donor = make_base(tmp_path_factory.mktemp("donor") / "copy.raw", CONTENT, format="raw")
    cowherd("clone", "base.qcow2", "o.qcow2")
    write(herd / "base.qcow2", "write -P 2 0 128k")
    code, out, _ = cowherd("repair", "base.qcow2", "--preserve", "--from", donor)
    assert code == 0
    assert "128 KiB written to o.qcow2" in out
    assert content(herd / "o.qcow2") == CONTENT
    assert cowherd("verify", "--full")[0] == 0


def test_tree_draws_the_lineage(cowherd, herd):
    for base, overlay in (("base.qcow2", "a.qcow2"), ("a.qcow2", "b.qcow2"), ("base.qcow2", "c.qcow2")):
        cowherd("clone", base, overlay)
    code, out, _ = cowherd("tree")
    assert code == 0
    assert [line.split("  ")[0].rstrip() for line in out.splitlines()][1:] == ["base.qcow2", "├─ a.qcow2", "│", "└─ c.qcow2"]
    assert "│  └─ b.qcow2" in out


def test_tree_as_a_document(cowherd, as_json, herd):
    cowherd("clone", "base.qcow2", "o.qcow2")
    code, document = as_json("tree", herd)
    assert code == 0
    assert sorted(document) == ["directories", "gone", "hidden_machines", "images", "running_on_gone", "unreadable"]
    assert [(image["path"], image["base"], image["depth"], image["seal"], image["status"]) for image in document["images"]] == [
        (str(herd / "base.qcow2"), None, 0, "recorded", "ok"),
        (str(herd / "o.qcow2"), str(herd / "base.qcow2"), 1, None, "ok"),
    ]


def test_tree_of_nothing(cowherd, tmp_path):
    assert cowherd("tree", tmp_path)[:2] == (0, "no images\n")


def test_names_are_escaped(cowherd, herd):
    (herd / "base.qcow2").rename(herd / "a\n\x1b[31mb")
    _, out, _ = cowherd("tree")
    assert "a\\x0a\\x1b[31mb" in out
    assert "\x1b" not in out


def test_an_image_in_use_is_an_error_that_names_who_has_it(cowherd, herd):
    with HostFile.open(herd / "base.qcow2", writable=True, lock=WRITE):
        code, _, err = cowherd("seal", "base.qcow2")
    assert code == 1
    assert "this program itself" in err


def test_another_directory_can_be_named(cowherd, as_json, herd, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    cowherd("clone", "base.qcow2", elsewhere / "o.qcow2")
    assert cowherd("unseal", "base.qcow2", "--herd", elsewhere)[0] == 3
    _, document = as_json("verify", "--herd", elsewhere)
    assert [image["path"] for image in document["images"]] == [str(herd / "base.qcow2"), str(elsewhere / "o.qcow2")]


@pytest.mark.parametrize("command", ["tree", "verify"])
def test_the_quick_commands_load_no_numpy(tmp_path, command):
    make_base(tmp_path / "base.qcow2", CONTENT)
    code = "import sys; from cowherd.cli.guard.main import main; main(sys.argv[1:]); sys.exit('numpy' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.path.abspath("src")}
    words = [tmp_path] if command == "tree" else ["--herd", tmp_path]
    done = subprocess.run([sys.executable, "-c", code, command, *words], env=environment, check=False, capture_output=True)
    assert done.returncode == 0


def test_a_closed_pipe_is_no_traceback(tmp_path):
    make_base(tmp_path / "base.qcow2", CONTENT)
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "cowherd.cli.guard.main", "tree", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.path.abspath("src")}
    done = subprocess.run(command, env=environment, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


def test_impact_on_files_names_what_it_can_and_says_what_it_cant(herd, cowherd, as_json):
    cowherd("clone", "base.qcow2", "overlay.qcow2")
    os.chmod("base.qcow2", 0o644)
    write(herd / "base.qcow2", "write -P 7 0 64k")
    code, found = as_json("impact", "base.qcow2", "--files")
    (overlay,) = found["overlays"]
    assert code == 4
    assert overlay["verdict"] == "synchronised"
    assert overlay["files"] == {"changed": [], "lost": [], "new": []}
    assert [entry["place"] for entry in overlay["unknown"]] == ["the whole disk"] * 2  # how it is read, and what it holds
    code, out, _ = cowherd("impact", "base.qcow2", "--files")
    assert "unknown the whole disk: it holds no file system that is known here" in out


def test_impact_on_files_shows_which_disk_it_looks_into(herd, cowherd, monkeypatch):
    cowherd("clone", "base.qcow2", "overlay.qcow2")
    os.chmod("base.qcow2", 0o644)
    write(herd / "base.qcow2", "write -P 7 0 64k")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("cowherd.cli.guard.output._SLOW_SECONDS", -1)
    _, _, err = cowherd("impact", "base.qcow2", "--files")
    assert "looking into overlay.qcow2: 100 %" in err


@pytest.mark.parametrize(
    "words",
    [["doctor", "--full"], ["verify", "--full"], ["run", "--full", "--dry-run", "--", "qemu-kvm", "-hda", "o.qcow2"]],
)
def test_progress_says_which_image_is_read(herd, cowherd, words):
    cowherd("clone", "base.qcow2", "o.qcow2")
    options = words.index("--") if "--" in words else len(words)
    _, _, err = cowherd(*words[:options], "--progress", "json", *words[options:])
    lines = [json.loads(line) for line in err.splitlines()]
    assert {line["what"] for line in lines if line["type"] == "progress"} == {"reading base.qcow2"}


def test_a_donor_goes_with_a_look_at_files(cowherd, herd):
    assert cowherd("impact", "base.qcow2", "--from", "base.qcow2")[0] == 2
