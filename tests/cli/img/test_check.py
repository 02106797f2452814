"""cowherd-img check beside qemu-img check."""

from __future__ import annotations

import json

import pytest

from tests.cli.img.both import cowherd_img, same
from tests.cli.img.gallery import READABLE

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.mark.parametrize("name", READABLE)
def test_a_good_image_is_reported_as_by_qemu_img(in_gallery, name):
    assert same("check", name).code in (0, 63)


@pytest.mark.parametrize("name", READABLE)
def test_the_json_is_that_of_qemu_img(in_gallery, name):
    outcome = same("check", "--output=json", name)
    assert outcome.code == 63 or json.loads(outcome.out)["check-errors"] == 0


@pytest.mark.parametrize("more", [[], ["--output=json"], ["-q"], ["-q", "--output=json"]])
def test_leaks_are_code_3(own_gallery, monkeypatch, more):
    monkeypatch.chdir(own_gallery)
    _overwrite_first_data_entry("plain.qcow2", bytes(8))
    assert same("check", *more, "plain.qcow2").code == 3


@pytest.mark.parametrize("more", [[], ["--output=json"], ["-q"]])
def test_corruptions_are_code_2(own_gallery, monkeypatch, more):
    monkeypatch.chdir(own_gallery)
    _overwrite_first_data_entry("plain.qcow2", (1 << 63 | 1 << 40).to_bytes(8, "big"))
    assert same("check", *more, "plain.qcow2").code == 2


def _overwrite_first_data_entry(name, entry):
    with open(name, "r+b") as file:
        file.seek(40)
        file.seek(int.from_bytes(file.read(8), "big"))
        file.seek(int.from_bytes(file.read(8), "big") & 0xFFFFFFFFFFFE00)
        file.write(entry)


@pytest.mark.parametrize(
    "arguments", [[], ["nothere"], ["-T", "foo", "plain.qcow2"], ["-r", "foo", "plain.qcow2"], ["-q", "plain.raw"]]
)
def test_what_can_not_be_checked_is_told_alike(in_gallery, arguments):
    same("check", *arguments)


def test_repairs_are_refused_and_say_what_does_them(in_gallery):
    outcome = cowherd_img("check", "-r", "all", "plain.qcow2")
    assert outcome.code == 1
    assert "qemu-img check -r" in outcome.err
