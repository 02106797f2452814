"""What the functions of the API return: each result tells itself as plain values, those that the programs print."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import re
import typing
from pathlib import Path

import pytest

import cowherd
from cowherd.cli.guard.main import main
from cowherd.cli.img.main import main as img_main

FUNCTIONS = {name: function for name in cowherd._HOME_OF if inspect.isfunction(function := getattr(cowherd, name))}
PLAIN = {"None", "int", "bytes", "str", "Path", "Disk"}


def classes_of(function: object) -> set[str]:
    """The names of the classes in what a function returns."""
    return set(re.findall(r"\w+", str(inspect.signature(function).return_annotation))) - {"list", "tuple"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_result_has_a_document(name):
    module = inspect.getmodule(FUNCTIONS[name])
    for found in classes_of(FUNCTIONS[name]) - PLAIN:
        known = {**vars(cowherd), **{public: getattr(cowherd, public) for public in cowherd._HOME_OF}, **vars(module)}
        kind = known.get(found) or _of_annotations(found)
        assert callable(kind.to_json), found


def _of_annotations(name: str) -> type:
    """A class that its module imports for annotations only."""
    from cowherd.ops.commit import Committed
    from cowherd.ops.rebase.rebased import Rebased

    return {"Committed": Committed, "Rebased": Rebased}[name]


@pytest.fixture
def herd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("base", "alone"):
        cowherd.create(f"{name}.qcow2", "4M")
        with cowherd.open(f"{name}.qcow2", writable=True) as disk:
            disk.write(0, b"data" * 65536)
    for name in ("web", "mail", "db"):
        cowherd.create(f"{name}.qcow2", backing="base.qcow2", backing_format="qcow2")


def img(words: list[str]) -> int:
    """`cowherd-img`, which takes its own name first."""
    return img_main(["cowherd-img", *words])


def printed(*words: str, program: typing.Callable[[list[str]], int] = main) -> typing.Any:
    """The document that a program prints."""
    binary = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(binary, "utf-8")) as output, contextlib.redirect_stderr(io.StringIO()):
        program(list(words))
        output.flush()
    return json.loads(binary.getvalue())


def same(document: object) -> typing.Any:
    """A document as it comes out of JSON."""
    return json.loads(json.dumps(document))


def but(document: dict[str, typing.Any], *keys: str) -> dict[str, typing.Any]:
    return {key: value for key, value in document.items() if key not in keys}


LOOKS = ("schema", "searched", "known_dependents", "passed_over", "not_given")
"""What the program adds to a result: where it looked, what new files could not be given, and the number of the schema."""


def test_tree_verify_doctor_gc_and_the_trash_tell_what_the_program_prints(herd):
    cowherd.seal("base.qcow2", bind=True)
    cowherd.trash("db.qcow2")
    assert same(cowherd.tree().to_json()) == but(printed("tree", "--json"), *LOOKS)
    assert [row.to_json() for row in cowherd.verify()] == printed("verify", "--json")["images"]
    assert same(cowherd.doctor().to_json()) == but(printed("doctor", "--json"), *LOOKS)
    assert [row.to_json() | {"removed": False} for row in cowherd.gc()] == printed("gc", "--json")["garbage"]
    assert [entry.to_json() for entry in cowherd.trashed()] == printed("trash", "list", "--json")["images"]


def test_show_status_and_log_tell_what_the_program_prints(herd, monkeypatch, tmp_path):
    monkeypatch.setenv("COWHERD_STATE", str(tmp_path / "state"))
    assert main(["seal", "base.qcow2", "--bind", "-q"]) == 0
    assert same(cowherd.show("web.qcow2").to_json()) == but(printed("show", "web.qcow2", "--json"), *LOOKS)
    assert same(cowherd.status().to_json()) == but(printed("status", "--json"), *LOOKS)
    assert same(cowherd.status("base.qcow2", herd=".").to_json()) == but(printed("status", "base.qcow2", "--json"), *LOOKS)
    found = cowherd.log("base.qcow2", number=1)
    assert [entry.command for entry in found.entries] == ["seal"]
    assert same(found.to_json()) == but(printed("log", "base.qcow2", "-n", "1", "--json"), *LOOKS)
    with pytest.raises(cowherd.InvalidRequest):
        cowherd.log(number=0)


def test_impact_repair_and_merge_tell_what_the_program_prints(herd):
    cowherd.seal("base.qcow2", bind=True)
    cowherd.convert("base.qcow2", "copy.raw")
    with cowherd.open("base.qcow2", writable=True, break_dependents=True) as disk:
        disk.write(0, b"news" * 65536)
    assert same(cowherd.impact("base.qcow2").to_json()) == but(printed("impact", "base.qcow2", "--json"), *LOOKS)
    planned = cowherd.repair("base.qcow2", dry_run=True).to_json()
    assert same(planned) == but(printed("repair", "base.qcow2", "--dry-run", "--json"), *LOOKS)
    assert cowherd.repair("base.qcow2").to_json()["done"]
    merged = cowherd.merge("web.qcow2", dry_run=True).to_json()
    assert same(merged) == but(printed("merge", "web.qcow2", "--dry-run", "--json"), *LOOKS)


def test_seal_bind_flatten_retarget_move_and_relink_tell_what_the_program_prints(herd):
    assert cowherd.seal("base.qcow2").to_json() == but(printed("seal", "base.qcow2", "--json"), *LOOKS) | {"anew": True}
    assert [one.to_json() for one in cowherd.bind("web.qcow2")] == printed("bind", "web.qcow2", "--json")["overlays"]
    flat = cowherd.flatten("web.qcow2", dry_run=True).to_json()
    assert flat == but(printed("flatten", "web.qcow2", "--dry-run", "--json"), *LOOKS)
    onto = [one.to_json() for one in cowherd.retarget("mail.qcow2", "alone.qcow2", dry_run=True)]
    assert onto == printed("retarget", "mail.qcow2", "--onto", "alone.qcow2", "--dry-run", "--json")["overlays"]
    moved = cowherd.move("base.qcow2", "other.qcow2", dry_run=True).to_json() | {"done": False}
    assert moved == but(printed("move", "base.qcow2", "other.qcow2", "--dry-run", "--json"), *LOOKS)
    linked = [one.to_json() for one in cowherd.relink("web.qcow2", dry_run=True)]
    assert linked == printed("move", "--repair", "web.qcow2", "--dry-run", "--json")["overlays"]


def test_clone_promote_and_restore_tell_what_the_program_prints(herd):
    made = cowherd.clone("base.qcow2", "new.qcow2").to_json()
    again = but(printed("clone", "base.qcow2", "newer.qcow2", "--json"), *LOOKS)
    assert made | {"overlay": again["overlay"], "sealed_now": False} == again
    golden = cowherd.promote("alone.qcow2", "golden.qcow2").to_json()
    again = but(printed("promote", "alone.qcow2", "second.qcow2", "--json"), *LOOKS)
    assert golden | {"base": again["base"]} == again
    cowherd.trash(["web.qcow2", "mail.qcow2"])
    back = cowherd.restore("web.qcow2").to_json()
    assert back | {"path": f"{Path.cwd()}/mail.qcow2"} == printed("trash", "restore", "mail.qcow2", "--json")["images"][0]


def test_a_recovery_that_had_nothing_to_do_has_no_documents(herd):
    assert [one.to_json() for one in cowherd.recover()] == printed("recover", "--json")["merges"] == []


def test_inspect_info_check_and_measure_tell_what_the_programs_print(herd):
    assert {"image": "web.qcow2", **cowherd.inspect("web.qcow2").to_json()} == but(
        printed("inspect", "web.qcow2", "--json"), *LOOKS
    )
    chain = [info.to_json() for info in cowherd.chain_info("web.qcow2")]
    assert chain == printed("info", "--backing-chain", "--output=json", "web.qcow2", program=img)
    facts = cowherd.check("base.qcow2").to_json() | {"filename": "base.qcow2", "format": "qcow2"}
    assert facts == printed("check", "--output=json", "base.qcow2", program=img)
    sizes = cowherd.measure(size="1G", target_format="qcow2").to_json()
    assert sizes == printed("measure", "--output=json", "-O", "qcow2", "--size", "1G", program=img)


def test_what_has_no_document_in_the_programs_tells_its_fields(herd):
    assert cowherd.compare("base.qcow2", "alone.qcow2").to_json()["identical"] is True
    cowherd.create("top.qcow2", backing="alone.qcow2", backing_format="qcow2")
    with cowherd.open("top.qcow2", writable=True) as disk:
        disk.write(0, b"top")
    assert cowherd.rebase("top.qcow2", "alone.qcow2", backing_format="qcow2").to_json() == {
        "bytes_compared": 0,
        "bytes_written": 0,
    }
    done = cowherd.commit("top.qcow2").to_json()
    assert (done["base"], done["emptied"]) == ("alone.qcow2", True)
    assert done["copied_bytes"] > 0


def test_an_overview_counts_what_the_page_shows(herd):
    found = cowherd.overview().to_json()
    assert (found["images"], found["drifts"]) == (5, 0)
    page = cowherd.report(".")
    assert page.startswith("<!doctype html>")
    assert "web.qcow2" in page


DOMAIN = "<domain type='kvm'><name>web</name><devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source \
file='{}'/><target dev='vda'/></disk></devices></domain>"


def test_a_domain_is_checked_as_the_hook_does(herd):
    cowherd.seal("base.qcow2", bind=True)
    xml = DOMAIN.format(Path("web.qcow2").absolute())
    assert cowherd.check_domain(xml).to_json()["may_start"] is True
    with cowherd.open("base.qcow2", writable=True, break_dependents=True) as disk:
        disk.write(0, b"news" * 65536)
    found = cowherd.check_domain(xml.encode(), herd=".")
    assert (found.exit_code, found.to_json()["may_start"]) == (4, False)
    assert [answer.status for answer in found.refusals] == ["touched"]
    with pytest.raises(cowherd.MachineUnclear):
        cowherd.check_domain("<network/>")


def test_a_watch_ends_when_its_caller_wants_no_more(herd):
    cowherd.seal("base.qcow2", bind=True)
    events = []

    def on_event(event: object) -> bool:
        events.append(event.to_json())
        return event.kind != "verified"

    cowherd.watch(".", on_event, fanotify=False)
    assert [event["event"] for event in events] == ["started", "verified", "stopped"]
    with pytest.raises(cowherd.HostFileError, match="missing"):
        cowherd.watch("missing", on_event)
