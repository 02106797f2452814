from __future__ import annotations

import io
import json
import os
import sys

import pytest

from cowherd.herd.overlays.clone import clone
from cowherd.herd.seals.seal import seal
from tests.herd.qemu_herd import make_base, noise

pytestmark = pytest.mark.qemu()

XML = """<domain type='qemu'><name>web</name><devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
<source file='{}'/><target dev='vda'/></disk></devices></domain>"""


class Piped(io.TextIOWrapper):
    """Standard input with a document in it."""

    def __init__(self, text: str):
        super().__init__(io.BytesIO(text.encode()))


@pytest.fixture
def overlay(tmp_path, monkeypatch):
    seal(make_base(tmp_path / "base", noise(1 << 16)))
    clone(tmp_path / "base", tmp_path / "o", seal_base=False)
    monkeypatch.setattr(sys, "stdin", Piped(XML.format(tmp_path / "o")))
    return tmp_path / "o"


def test_a_sound_domain_passes(cowherd, overlay):
    code, out, err = cowherd("hook", "check")
    assert (code, err) == (0, "")
    assert out.split()[:2] == ["ok", "vda"]


def test_a_domain_on_a_changed_base_is_refused_by_its_name(cowherd, overlay):
    os.utime(overlay.parent / "base")
    code, out, err = cowherd("hook", "check")
    assert (code, out) == (4, "")
    assert err.startswith(f"cowherd: refusing to start web: vda: touched: {overlay.parent / 'base'}: it was written to")


@pytest.mark.parametrize(
    ("devices", "code"),
    [
        ("<memory model='nvdimm'><source><path>{base}</path></source></memory>", 3),
        ("<pstore backend='acpi-erst'><path>{base}</path></pstore>", 3),
        ("<filesystem><source dir='{directory}'/><target dir='t'/></filesystem>", 3),
        ("<new source='{overlay}'/>", 1),
        ("<new source='{base}'/>", 3),
        ("</devices><q:commandline><q:arg value='-hda'/><q:arg value='{overlay}'/></q:commandline><devices>", 0),
        ("</devices><q:commandline><q:arg value='-hda'/><q:arg value='{base}'/></q:commandline><devices>", 3),
        ("</devices><q:commandline><q:arg value='-new'/></q:commandline><devices>", 1),
    ],
)
def test_a_domain_is_judged_by_everything_that_names_a_file(cowherd, overlay, monkeypatch, devices, code):
    named = devices.format(base=overlay.parent / "base", directory=overlay.parent, overlay=overlay)
    xml = f"<domain xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><devices>{named}</devices></domain>"
    monkeypatch.setattr(sys, "stdin", Piped(xml))
    assert cowherd("hook", "check", "--name", "web")[0] == code


def test_what_is_not_understood_may_be_allowed_and_is_said(cowherd, overlay, monkeypatch):
    xml = f"<domain><devices><new source='{overlay}'/></devices></domain>"
    monkeypatch.setattr(sys, "stdin", Piped(xml))
    code, _, err = cowherd("hook", "check", "--allow-unknown")
    assert (code, "not checked: domain/devices/new" in err) == (0, True)


def test_the_answer_is_a_document(cowherd, overlay):
    code, out, _ = cowherd("hook", "check", "--json", "--full")
    assert code == 0
    assert json.loads(out)["may_start"] is True
    assert json.loads(out)["drives"][0]["where"] == "vda"


def test_installing_says_where_and_what_is_left_to_do(as_json, cowherd, tmp_path):
    code, done = as_json(
        "hook", "install", "libvirt", "--root", tmp_path, "--full", "--allow-unknown", "--herd", "x", "--on-error", "warn"
    )
    assert (code, done["reload_needed"], done["replaced"]) == (0, True, False)
    assert f"hook check --full --allow-unknown --herd {os.path.abspath('x')} --name" in done["script"]
    assert "on_error=warn" in done["script"]
    code, out, _ = cowherd("hook", "status", "--root", tmp_path)
    assert (code, out) == (0, f"{done['path']}: works; if the check fails: warn\n")
    code, out, _ = cowherd("hook", "uninstall", "--root", tmp_path)
    assert (code, out) == (0, f"{done['path']}: removed\n")
    assert cowherd("hook", "status", "--root", tmp_path)[0] == 1


def test_a_dry_run_shows_the_script(cowherd, tmp_path):
    code, out, _ = cowherd("hook", "install", "--root", tmp_path, "--dry-run")
    assert code == 0
    assert "#!/bin/sh" in out
    assert list(tmp_path.iterdir()) == []
