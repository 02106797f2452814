from __future__ import annotations

import pytest

from cowherd.errors import BackingFileError, InvalidRequest
from cowherd.formats.reference import BackingReference
from cowherd.herd.lineage.survey import survey
from cowherd.herd.records.binding import read_binding
from cowherd.herd.records.faults import BindingContradicted, DriftFound, NotSealed
from cowherd.herd.seals import adopt as adoption
from cowherd.herd.seals.adopt import adopt
from cowherd.herd.seals.quick_check import record_of
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.seals.verify import verify
from cowherd.image.open import open_disk
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, qemu_img, write

pytestmark = pytest.mark.qemu("qemu-io")

CONTENT = noise(1 << 20)


@pytest.fixture
def herd(tmp_path):
    """base <- (a <- a2, b), made by QEMU alone."""
    make_base(tmp_path / "base", CONTENT)
    make_overlay(tmp_path / "a", "base")
    make_overlay(tmp_path / "a2", "a")
    make_overlay(tmp_path / "b", "base")
    return tmp_path


def forget_format(overlay, name: str = "base") -> None:
    with open_disk(overlay, writable=True, backing=False) as disk:
        disk.set_backing(BackingReference(name, None))


def test_an_overlay_is_bound_and_its_base_sealed(herd):
    (done,) = adopt([herd / "a"])
    assert (done.base, done.sealed_now, done.problem) == (herd / "base", True, None)
    assert read_binding(herd / "a").content_digest == seal(herd / "base").record.content_digest
    assert read_binding(herd / "b") is None


def test_a_directory_stands_for_its_overlays_each_base_being_sealed_once(herd):
    done = adopt([herd])
    assert [one.overlay.name for one in done] == ["a", "a2", "b"]
    assert [one.sealed_now for one in done] == [True, True, False]
    assert {row.status.value for row in verify(herd=[herd], full=True)} == {"ok"}
    assert adopt([herd]) == []


def test_the_herd_is_looked_through_anew_only_for_what_has_changed_below(herd, monkeypatch):
    for number in range(10):
        make_overlay(herd / f"c{number}", "base")
    looks = []

    def look(lineage, again=adoption.survey_again):
        looks.append(lineage)
        return again(lineage)

    monkeypatch.setattr(adoption, "survey_again", look)
    assert [one.problem for one in adopt([herd])] == [None] * 13
    assert len(looks) == 3  # two bases were sealed, and one of them had been bound itself
    assert {row.status.value for row in verify(herd=[herd], full=True)} == {"ok"}


def test_binding_keeps_the_seal_of_the_overlay_itself(herd):
    seal(herd / "a")
    adopt([herd / "a"])
    assert {row.status.value for row in verify([herd / "a"])} == {"ok"}


def test_an_unsealed_base_may_be_left_unsealed(herd):
    (done,) = adopt([herd / "a"], seal_bases=False)
    assert isinstance(done.problem, NotSealed)
    assert read_binding(herd / "a") is None


def test_a_base_that_is_not_as_sealed_is_not_bound_to(herd):
    seal(herd / "base")
    write(herd / "base", "write -P 1 0 64k")
    (done,) = adopt([herd / "a"])
    assert isinstance(done.problem, DriftFound)


def test_an_overlay_made_on_other_content_is_left_alone_unless_forced(herd):
    adopt([herd / "a"])
    unseal(herd / "base", force=True)
    write(herd / "base", "write -P 1 0 64k")
    before = read_binding(herd / "a")
    (done,) = adopt([herd / "a"])
    assert isinstance(done.problem, BindingContradicted)
    assert read_binding(herd / "a") == before
    (done,) = adopt([herd / "a"], rebind=True)
    assert done.binding == read_binding(herd / "a") != before


def test_a_format_that_nothing_records_must_be_named(herd):
    (herd / "a2").unlink()
    (herd / "b").unlink()
    forget_format(herd / "a")
    (done,) = adopt([herd / "a"])
    assert isinstance(done.problem, InvalidRequest)
    assert not (herd / "base.seal").exists()
    (done,) = adopt([herd / "a"], base_format="qcow2")
    assert done.format_recorded == "qcow2"
    assert '"backing-filename-format": "qcow2"' in qemu_img("info", "--output=json", herd / "a")


def test_a_format_that_another_overlay_records_is_taken(herd):
    forget_format(herd / "a")
    (done,) = adopt([herd / "a"])
    assert (done.format_recorded, done.problem) == ("qcow2", None)


def test_a_raw_base_that_begins_like_qcow2_is_sealed_as_the_raw_image_that_it_is(tmp_path):
    raw = make_base(tmp_path / "image", CONTENT).read_bytes()
    (tmp_path / "image").unlink()
    make_base(tmp_path / "disk.raw", raw, format="raw")
    make_overlay(tmp_path / "o", "disk.raw", base_format="raw")
    forget_format(tmp_path / "o", "disk.raw")
    (done,) = adopt([tmp_path / "o"], base_format="raw")
    assert done.problem is None
    base = survey([tmp_path]).find(tmp_path / "disk.raw")
    assert record_of(base).format == "raw"
    assert content(tmp_path / "o")[: len(raw)] == raw


def test_a_format_that_contradicts_the_recorded_one_is_refused(herd):
    (done,) = adopt([herd / "a"], base_format="raw")
    assert isinstance(done.problem, InvalidRequest)


@pytest.mark.parametrize(("name", "error"), [("base", InvalidRequest), ("b", BackingFileError)])
def test_what_has_no_base_or_has_lost_it_can_not_be_bound(herd, name, error):
    if name == "b":
        qemu_img("rebase", "-u", "-b", "gone", "-F", "qcow2", herd / "b")
    (done,) = adopt([herd / name])
    assert isinstance(done.problem, error)
