from __future__ import annotations

import json
import os
import pwd
import re
import sys
import time
from pathlib import Path

import pytest

from cowherd.cli.guard.main import main
from cowherd.herd.merge.merge import merge
from cowherd.herd.records.sealfile import read_record
from cowherd.herd.records.sealplace import seal_name
from cowherd.herd.seals.seal import seal
from cowherd.live.running_faults import Fault
from tests.herd.merge.herds import killed_at
from tests.herd.qemu_herd import make_base, make_overlay, noise, write
from tests.live.machines import machine
from tests.qmp import Monitor
from tests.storage.hosts import loop_device, running

IMPOSTER = Path(__file__).parents[2] / "live" / "imposter.py"
PAGE = Path(__file__).parents[3] / "docs" / "live.md"

pytestmark = pytest.mark.qemu("qemu-system-x86_64")


@pytest.fixture
def herd(tmp_path):
    make_base(tmp_path / "base", noise(1 << 20))
    for name in "abc":
        make_overlay(tmp_path / name, "base")
    return tmp_path


def disk(name, *more):
    return ("-name", f"machine-{name}", "-drive", ",".join((f"file={name}", "if=virtio", *more)))


def test_one_machine_without_locks_one_replaced_and_one_deleted_are_told_in_one_call(herd, capsys):
    with machine(herd, *disk("a", "file.locking=off")), machine(herd, *disk("b"), monitor="monitor"), machine(herd, *disk("c")):
        (herd / "new").write_bytes((herd / "b").read_bytes())
        os.rename(herd / "new", herd / "b")
        os.unlink(herd / "c")
        code = main(["ps", "--json", "--image", str(herd / "base")])
    document = json.loads(capsys.readouterr().out)
    assert code == 4
    found = {(one["kind"], os.path.basename(one["image"] or "")) for one in document["findings"]}
    assert {("no-locks", "a"), ("replaced", "b"), ("deleted", "c")} <= found
    assert {one["machine"] for one in document["processes"]} == {"machine-a", "machine-b", "machine-c"}


def test_two_machines_on_one_base_have_open_what_their_monitors_and_the_kernel_say(herd, capsys):
    """What `ps` says is what HMP's `info block` says, and what the descriptors in /proc lead to."""
    with machine(herd, *disk("a"), monitor="one") as one, machine(herd, *disk("b"), monitor="two") as two:
        assert main(["ps", "--json", str(herd)]) == 0
        document = json.loads(capsys.readouterr().out)
        told = {one.pid: info_block(herd / "one"), two.pid: info_block(herd / "two")}
        held = {process.pid: open_under(herd, process.pid) for process in (one, two)}
    shown = {
        process["pid"]: [[os.path.basename(layer["name"]) for layer in chain["opened"]] for chain in process["disks"]]
        for process in document["processes"]
    }
    assert shown == {one.pid: [["a", "base"]], two.pid: [["b", "base"]]}
    assert told == {one.pid: ("a", "base"), two.pid: ("b", "base")}
    assert held == {
        process["pid"]: {(os.path.basename(image["path"]), image["inode"], image["writing"]) for image in process["images"]}
        for process in document["processes"]
    }


def info_block(monitor) -> tuple[str, str]:
    """The image and its backing file, as QEMU's monitor for people has them."""
    talk = Monitor(monitor)
    printed = talk("human-monitor-command", **{"command-line": "info block"})
    talk.close()
    return re.search(r"^virtio0 \S+: (\S+) \(qcow2\)", printed)[1], re.search(r"Backing file: +(\S+) ", printed)[1]


def open_under(directory, pid) -> set[tuple[str, int, bool]]:
    """The regular files of a directory that a process has open: name, inode, and whether for writing."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = Path(os.readlink(link))
        except FileNotFoundError:
            continue  # closed since it was listed: a machine that runs closes descriptors of its own at any time
        if target.parent == directory and target.is_file():
            flags = int(re.search(r"^flags:\s+(\d+)$", Path(f"/proc/{pid}/fdinfo/{link.name}").read_text(), re.MULTILINE)[1], 8)
            found[target] = found.get(target, False) or bool(flags & os.O_ACCMODE)
    return {(path.name, path.stat().st_ino, writing) for path, writing in found.items()}


def test_of_each_file_the_seal_and_the_status_are_shown(herd, capsys):
    seal(herd / "base")
    with machine(herd, *disk("a")):
        assert main(["ps", str(herd)]) == 0
        text = capsys.readouterr().out
        with (herd / "base").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"x")
        assert main(["ps", "--json", str(herd)]) == 0
    level = read_record(seal_name(str(herd / "base"))).level.label
    assert re.search(rf"^ +\S*/a  writing, locked; ok$\n^ +\S*/base  reading, locked; seal {level}, ok$", text, re.MULTILINE)
    images = {os.path.basename(one["path"]): one for one in json.loads(capsys.readouterr().out)["processes"][0]["images"]}
    assert [(images[name]["seal"], images[name]["status"]) for name in ("a", "base")] == [(None, "touched"), (level, "touched")]


def test_a_machine_is_shown_with_its_user_its_start_its_drive_and_its_monitor(herd, capsys, monkeypatch):
    monkeypatch.chdir(herd)
    with machine(herd, *disk("a"), monitor="monitor") as process:
        assert main(["ps", "."]) == 0
        text = capsys.readouterr().out
        assert main(["ps", "--json", "."]) == 0
    (one,) = json.loads(capsys.readouterr().out)["processes"]
    user = pwd.getpwuid(os.geteuid()).pw_name
    start = time.strftime("%Y-%m-%d %H:%M", time.localtime(one["since"]))
    assert abs(one["since"] - time.time()) < 600
    assert text.startswith(f"qemu-system-x86_64 (pid {process.pid}, user {user}, since {start}), machine machine-a, ")
    assert ", monitor monitor\n    a  writing, locked, as virtio0; " in text
    assert (one["user"], one["machine"], one["domain"], one["asked"]) == (user, "machine-a", None, True)
    assert one["disks"][0]["drives"] == [{"name": "virtio0", "problem": None}]


def test_exports_jobs_and_devices_of_the_kernel_are_shown(herd, capsys, monkeypatch):
    monkeypatch.chdir(herd)
    (herd / "raw").write_bytes(noise(1 << 20))
    with loop_device(herd / "raw", "--read-only") as device, machine(herd, *disk("a"), monitor="monitor"):
        talk = Monitor(herd / "monitor")
        talk("nbd-server-start", addr={"type": "unix", "data": {"path": "nbd"}})
        talk("block-export-add", **{"id": "out", "type": "nbd", "node-name": talk("query-block")[0]["inserted"]["node-name"]})
        talk("drive-mirror", **{"job-id": "copying", "device": "virtio0", "target": "copy"}, sync="full", speed=1)
        talk.close()
        main(["ps", "--json", ".", "--image", "raw"])
        document = json.loads(capsys.readouterr().out)
        main(["ps", ".", "--image", "raw"])
    text = capsys.readouterr().out
    assert re.search(r"^    export out \(nbd\) of #block\d+$", text, re.MULTILINE)
    assert re.search(r"^    job copying: mirror, (running|ready), \d+ %$", text, re.MULTILINE)
    assert f"\nkernel: {device.name}\n    raw  reading\n" in text
    assert text.splitlines()[-1].startswith("1 process and 1 use of the kernel have images open: ")
    (one,) = document["processes"]
    assert [(export["id"], export["type"]) for export in one["exports"]] == [("out", "nbd")]
    assert [(job["id"], job["type"]) for job in one["jobs"]] == [("copying", "mirror")]
    assert [(user["name"], user["image"], user["writing"]) for user in document["kernel"]] == [
        (device.name, str(herd / "raw"), False)
    ]


NODE = {"node-name": "n", "drv": "qcow2", "file": "a", "image": {"filename": "a"}}
EVIL = "\x1b[2J\n\u202e"


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"query-named-block-nodes": 7},
        {"query-named-block-nodes": [NODE | {"image": [NODE]}]},
        {"query-named-block-nodes": [NODE | {"file": {"a": 1}}]},
        {"query-named-block-nodes": [NODE | {"dirty-bitmaps": [{"name": True, "inconsistent": True}]}]},
        {"query-block": {"device": []}},
        {"query-block-exports": ["n"]},
        {"query-jobs": [{"id": "j", "current-progress": 1e300, "total-progress": True}]},
        {"query-jobs": [{"id": "j", "status": "ready", "error": None}]},
    ],
    ids=lambda answers: next(iter(answers), "nothing"),
)
def test_a_monitor_that_answers_in_another_form_ends_nothing(herd, capsys, answers):
    code, text = shown_of_imposter(herd, capsys, answers)
    assert "Traceback" not in text
    assert (code, "is no QMP monitor" in text) == ((4, True) if answers else (0, False))


NAMES = [
    *(
        "nbd://host/x",
        "json:{",
        "json:[1]",
        'json:{"file.filename": 7}',
        'json:{"file.filename": "a\\u0000b"}',
        "json:" + "[" * 9000,
    ),
    *("x" * 9000, "", ".", "/", "../../..", "fat:rw:/", EVIL),
]


@pytest.mark.parametrize("filename", NAMES, ids=lambda name: ascii(name)[:30])
def test_whatever_a_monitor_calls_its_images_is_looked_up_and_shown_escaped(herd, capsys, filename):
    named = {
        "node-name": EVIL,
        "drv": EVIL,
        "file": filename,
        "image": {"filename": filename, "backing-image": {"filename": EVIL}},
    }
    answers = {
        "query-named-block-nodes": [named | {"dirty-bitmaps": [{"name": EVIL, "inconsistent": True}]}],
        "query-block": [{"device": EVIL, "inserted": {"image": named["image"]}, "io-status": EVIL}],
        "query-block-exports": [{"id": f"cowherd-{EVIL}", "type": EVIL, "node-name": EVIL}],
        "query-jobs": [{"id": EVIL, "type": EVIL, "status": "concluded", "error": EVIL}],
    }
    code, text = shown_of_imposter(herd, capsys, answers)
    assert code == 4
    assert "leftover" in text
    assert all(line.isprintable() for line in text.split("\n"))


def test_what_a_merge_that_was_cut_off_has_made_is_left_to_its_recovery(herd, capsys):
    answers = {"query-jobs": [{"id": "cowherd-1", "type": "commit", "status": "running"}]}
    write(herd / "a", "write -P 1 0 64k")
    code, text = shown_of_imposter(herd, capsys, answers)
    assert (code, "leftover: the job cowherd-1" in text) == (4, True)
    os.unlink(herd / "played")
    assert killed_at(6, lambda: merge(herd / "a", strategy="preserve"))
    code, text = shown_of_imposter(herd, capsys, answers)
    assert "merge-interrupted" in text
    assert (code, "leftover" in text) == (0, False)


def shown_of_imposter(herd, capsys, answers) -> tuple[int, str]:
    """The exit code and all that `ps` prints, as text and as JSON, of a process that plays a machine."""
    words = [IMPOSTER, herd / "a", json.dumps(answers), "-qmp", f"unix:{herd}/played,server=on,wait=off"]
    with running(sys.executable, *words, until="ready"):
        code = main(["ps", "--image", str(herd / "a")])
        text = capsys.readouterr()
        assert main(["ps", "--json", "--image", str(herd / "a")]) == code
    document = capsys.readouterr()
    assert json.loads(document.out)["processes"]
    return code, text.out + text.err + document.err


def test_of_a_directory_only_what_has_its_images_open_is_shown(herd, tmp_path_factory, capsys):
    other = tmp_path_factory.mktemp("other")
    make_base(other / "alone", noise(1 << 16))
    with machine(herd, *disk("a")) as here, machine(other, *disk("alone")) as there:
        assert main(["ps", str(herd)]) == 0
        seen = capsys.readouterr().out
        assert main(["ps", str(other)]) == 0
        elsewhere = capsys.readouterr().out
    assert f"pid {here.pid}," in seen
    assert f"pid {there.pid}," not in seen
    assert f"pid {there.pid}," in elsewhere
    assert "1 process has images open: nothing wrong" in seen


def test_a_socket_that_was_named_and_at_which_nobody_listens_is_told(tmp_path, capsys):
    (tmp_path / "image").write_bytes(noise(1 << 16))
    words = ("--image", str(tmp_path / "image"), "--qmp", str(tmp_path / "nothing"))
    assert main(["ps", *words]) == 4
    assert f"not-answering: the monitor {tmp_path}/nothing is lost: nobody listens there" in capsys.readouterr().out
    assert main(["ps", "--json", *words]) == 4
    document = json.loads(capsys.readouterr().out)
    assert [one["socket"] for one in document["lost_monitors"]] == [f"{tmp_path}/nothing"]


def test_what_is_asked_about_and_not_there_is_an_error(tmp_path, capsys):
    assert main(["ps", "--image", str(tmp_path / "nothing")]) == 1
    assert main(["ps", str(tmp_path / "nothing")]) == 1


def test_every_finding_is_explained():
    page = PAGE.read_text()
    assert all(f"| `{fault.value}` |" in page for fault in Fault)
