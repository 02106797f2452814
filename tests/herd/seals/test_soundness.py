"""What is sealed, or stood on for the first time, is looked at first."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys

import pytest

import cowherd
from cowherd.cli.guard.main import main
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.promote import promote
from cowherd.herd.records.binding import read_binding
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.soundness import NotSound
from cowherd.ops.inspect import soundness
from cowherd.storage.protection import Protection
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, qemu_img, write

pytestmark = pytest.mark.qemu("qemu-io")

JOBS = {
    "seal": seal,
    "clone": lambda path, **options: clone(path, path.with_name("new"), **options),
    "clone without a seal": lambda path, **options: clone(path, path.with_name("new"), seal_base=False, **options),
    "promote": lambda path, **options: promote(path, path.with_name("new"), level=Protection.RECORDED, **options),
    "promote chained": lambda path, **options: promote(
        path, path.with_name("new"), chained=True, level=Protection.RECORDED, **options
    ),
}


def cut_off(path):
    make_base(path, noise(1 << 20))
    os.truncate(path, 900_000)


def damaged(path):
    make_base(path, noise(1 << 20))
    with path.open("r+b") as file:
        file.seek(72)
        file.write((2).to_bytes(8, "big"))


def zipped(path):
    path.write_bytes(gzip.compress(noise(5000)))


def page(path):
    path.write_bytes(b"<!DOCTYPE html><title>404</title>" + bytes(1000))


def empty(path):
    path.write_bytes(b"")


@pytest.fixture
def herd(tmp_path):
    return tmp_path


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("spoil", [cut_off, damaged, zipped, page, empty], ids=lambda spoil: spoil.__name__)
def test_what_is_not_sound_is_refused_and_nothing_is_made(herd, spoil, job):
    image = herd / "image.qcow2"
    spoil(image)
    before = image.read_bytes()
    with pytest.raises(NotSound) as refused:
        JOBS[job](image)
    assert refused.value.exit_code == 4
    assert [path.name for path in herd.iterdir()] == ["image.qcow2"]
    assert image.read_bytes() == before


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("spoil", [cut_off, page], ids=lambda spoil: spoil.__name__)
def test_force_takes_it_as_it_is(herd, spoil, job):
    image = herd / "image.qcow2"
    spoil(image)
    JOBS[job](image, force=True)
    assert (herd / ("image.qcow2" if job == "seal" else "new")).exists()


@pytest.mark.parametrize("job", JOBS)
def test_what_lies_below_an_image_is_looked_at_as_well(herd, job):
    cut_off(herd / "base.qcow2")
    make_overlay(herd / "image.qcow2", herd / "base.qcow2")
    with pytest.raises(NotSound, match=r"base\.qcow2"):
        JOBS[job](herd / "image.qcow2")


def test_a_seal_vouches_for_what_lies_below_it(herd, monkeypatch):
    base = make_base(herd / "base.qcow2", noise(1 << 20))
    seal(base)
    looked = []
    monkeypatch.setattr(soundness, "_problem_of_qcow2", lambda file, **_: looked.append(file.name))
    clone(base, herd / "clone.qcow2")
    seal(base, level=Protection.READONLY)
    assert looked == []
    seal(make_overlay(herd / "other.qcow2", base))
    assert looked == [str(herd / "other.qcow2")]


def test_an_image_is_looked_at_once(herd, monkeypatch):
    looked = []
    monkeypatch.setattr(soundness, "_problem_of_qcow2", lambda file, **_: looked.append(file.name))
    clone(make_base(herd / "base.qcow2", noise(1 << 20)), herd / "clone.qcow2")
    promote(herd / "clone.qcow2", herd / "golden.qcow2")
    assert looked == [str(herd / "base.qcow2"), str(herd / "clone.qcow2")]


def test_the_owner_s_word_that_a_disk_is_raw_counts(herd):
    zipped(herd / "disk.qcow2")
    assert seal(herd / "disk.qcow2", image_format="raw").record.format == "raw"
    zipped(herd / "other.qcow2")
    assert clone(herd / "other.qcow2", herd / "clone", base_format="raw").binding


def test_a_raw_base_that_overlays_name_as_raw_may_be_called_anything(herd):
    (herd / "disk.qcow2").write_bytes(noise(1 << 20))
    make_overlay(herd / "overlay.qcow2", herd / "disk.qcow2", base_format="raw")
    assert seal(herd / "disk.qcow2").record.format == "raw"


def test_a_live_base_that_machines_read_is_sealed(herd):
    base = make_base(herd / "base.qcow2", noise(1 << 20))
    with cowherd.open(base):
        assert seal(base).record


@pytest.mark.parametrize(
    "options", ["", "extended_l2=on", "compression_type=zstd", "compat=0.10", "cluster_size=2M", "cluster_size=512"]
)
@pytest.mark.parametrize("packed", [(), ("-c",)], ids=["plain", "packed"])
def test_legal_images_are_sealed_and_cloned_as_before(herd, options, packed):
    if packed and "extended" in options:
        pytest.skip("qemu-img converts to compressed clusters without subclusters")
    base = make_base(herd / "base.qcow2", noise(300_000) + b"text" * 100_000, *packed, *(("-o", options) if options else ()))
    made = clone(base, herd / "clone.qcow2")
    assert content(made.overlay) == content(base)
    write(made.overlay, "write -P 1 0 64k")
    qemu_img("snapshot", "-c", "one", made.overlay)
    assert seal(made.overlay).record


@pytest.mark.parametrize("words", [["seal"], ["clone"], ["promote"]], ids=lambda words: words[0])
def test_the_commands_end_with_4_and_take_force(herd, capsys, monkeypatch, words):
    monkeypatch.chdir(herd)
    cut_off(herd / "image.qcow2")
    new = [] if words == ["seal"] else ["new.qcow2"]
    assert main([*words, "image.qcow2", *new, "--json"]) == 4
    printed = capsys.readouterr()
    assert "cut off" in printed.err
    assert "--force" in printed.err
    assert json.loads(printed.out)["error"]["kind"] == "NotSound"
    assert main([*words, "image.qcow2", *new, "--force"]) == 0


def test_a_clone_without_a_seal_looks_without_numpy(herd):
    make_base(herd / "base.qcow2", noise(1 << 20))
    script = (
        "import sys; from cowherd.cli.guard.main import main; main(['clone', '--no-seal', 'base.qcow2', 'new.qcow2']);"
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=herd, check=False, stdout=subprocess.DEVNULL).returncode == 0
    assert read_binding(herd / "new.qcow2") is None
