"""cowherd-img compare beside qemu-img compare."""

from __future__ import annotations

import pytest

from tests.cli.img.both import cowherd_img, same
from tests.cli.img.gallery import READABLE

pytestmark = pytest.mark.qemu("qemu-io")

PAIRS = [(READABLE[index], READABLE[(index * 7 + 3) % len(READABLE)]) for index in range(len(READABLE))]
EQUAL = [("plain.qcow2", "compressed.qcow2"), ("plain.qcow2", "zstd.qcow2"), ("overlay.qcow2", "in/overlay.qcow2")]


@pytest.mark.parametrize(("first", "second"), PAIRS + EQUAL)
def test_the_verdict_is_that_of_qemu_img(in_gallery, first, second):
    assert same("compare", first, second).code in (0, 1)


@pytest.mark.parametrize(("first", "second"), PAIRS + EQUAL)
def test_the_strict_verdict_is_that_of_qemu_img(in_gallery, first, second):
    same("compare", "-s", first, second)


def test_quiet_leaves_only_the_exit_code(in_gallery):
    assert same("compare", "-q", "plain.qcow2", "overlay.qcow2").code == 1
    assert same("compare", "-q", "-p", "plain.qcow2", "zstd.qcow2").code == 0


def test_formats_are_given_one_by_one(in_gallery):
    same("compare", "-f", "raw", "-F", "qcow2", "plain.raw", "plain.qcow2")
    same("compare", "-f", "raw", "-F", "raw", "plain.raw", "plain.qcow2")


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (1, ["plain.qcow2"]),
        (2, ["plain.qcow2", "nothere"]),
        (2, ["nothere", "plain.qcow2"]),
        (2, ["-T", "foo", "plain.qcow2", "plain.raw"]),
        (2, ["-F", "foo", "plain.qcow2", "plain.raw"]),
    ],
)
def test_what_can_not_be_compared_has_a_code_of_its_own(in_gallery, code, arguments):
    assert same("compare", *arguments).code == code


def test_an_unreadable_cluster_is_code_4(own_gallery, monkeypatch):
    monkeypatch.chdir(own_gallery)
    data = bytearray((own_gallery / "zstd.qcow2").read_bytes())
    place = data.index(b"\x28\xb5\x2f\xfd")
    data[place : place + 64] = bytes(64)
    (own_gallery / "zstd.qcow2").write_bytes(data)
    assert cowherd_img("compare", "zstd.qcow2", "plain.qcow2").code == 4


def test_progress_is_shown_and_ends_at_100_percent(in_gallery):
    outcome = cowherd_img("compare", "-p", "plain.qcow2", "zstd.qcow2")
    assert outcome.out.startswith("    (0.00/100%)\r")
    assert outcome.out.endswith("    (100.00/100%)\rImages are identical.\n\n")
