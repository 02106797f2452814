"""cowherd-img map beside qemu-img map."""

from __future__ import annotations

import json

import pytest

from tests.cli.img.both import same
from tests.cli.img.gallery import READABLE

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.mark.parametrize("name", READABLE)
def test_the_text_is_that_of_qemu_img(in_gallery, name):
    same("map", name)


@pytest.mark.parametrize("name", READABLE)
def test_the_json_is_that_of_qemu_img(in_gallery, name):
    json.loads(same("map", "--output=json", name).out)


@pytest.mark.parametrize("name", READABLE)
def test_a_part_is_mapped_as_qemu_img_does(in_gallery, name):
    same("map", "--output=json", "--start-offset", "1025k", "--max-length", "1500K", name)
    same("map", "-s", "700k", "plain.qcow2")


@pytest.mark.parametrize("more", [["-s", "20M"], ["-l", "0"], ["-s", "1M", "-l", "0"]])
def test_an_empty_part_is_one_entry_of_nothing(in_gallery, more):
    same("map", *more, "plain.qcow2")
    same("map", "--output=json", *more, "plain.qcow2")


@pytest.mark.parametrize(
    "arguments",
    [[], ["a", "b"], ["nothere"], ["-s", "x", "plain.qcow2"], ["-l", "-1", "plain.qcow2"], ["--output=foo", "plain.qcow2"]],
)
def test_what_makes_no_sense_is_complained_about_alike(in_gallery, arguments):
    assert same("map", *arguments).code == 1
