from __future__ import annotations

import pytest

from cowherd.cli.guard.look.page.families import DEEPEST_DRAWN, families_of
from cowherd.herd.overlays.clone import clone
from cowherd.herd.report.overview import overview
from tests.herd.qemu_herd import make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20


def families(herd):
    return families_of(overview([herd]))[0]


def names(family) -> list[tuple[str, str, int]]:
    return [(member.node.path.name, member.state, member.depth) for member in family.members]


@pytest.fixture
def herd(tmp_path):
    """Two sealed bases, `a` and `b`, with two overlays each."""
    for base in "ab":
        make_base(tmp_path / base, noise(MIB))
        for number in "12":
            clone(tmp_path / base, tmp_path / f"{base}{number}")
    return tmp_path


def test_the_worst_family_comes_first_and_in_it_the_worst_overlay(herd):
    write(herd / "b2", "write -P 7 0 64k")
    write(herd / "b", "write -P 1 512k 64k")
    found = families(herd)
    assert names(found[0]) == [("b", "drifted", 0), ("b2", "torn", 1), ("b1", "synchronised", 1)]
    assert names(found[1]) == [("a", "ok", 0), ("a1", "ok", 1), ("a2", "ok", 1)]


def test_an_overlay_comes_first_for_what_stands_on_it(herd):
    make_overlay(herd / "a2-1", "a2")
    write(herd / "a2-1", "write -P 7 0 64k")
    write(herd / "a", "write -P 1 512k 64k")
    assert [name for name, _, _ in names(families(herd)[0])] == ["a", "a2", "a2-1", "a1"]


def test_a_family_has_the_findings_and_changes_of_its_images(herd):
    write(herd / "b", "write -P 1 512k 64k")
    bad, fine = families(herd)
    assert [(one.kind.value, one.path.name) for one in bad.findings] == [("drifted", "b"), ("writable-base", "b")]
    assert [one.path.name for one in bad.drifts] == ["b"]
    assert [(one.kind.value, one.path.name) for one in fine.findings] == [("writable-base", "a")]
    assert (bad.severity, fine.severity) == ("bad", "warn")


def test_overlays_of_one_missing_base_are_one_family(tmp_path):
    make_base(tmp_path / "gone", noise(65536))
    for number in "12":
        make_overlay(tmp_path / number, "gone")
    (tmp_path / "gone").unlink()
    (family,) = families(tmp_path)
    assert (family.title, names(family)) == (f"{tmp_path}/gone", [("1", "missing-base", 0), ("2", "missing-base", 0)])


def test_images_that_stand_alone_and_are_fine_are_one_family(tmp_path):
    for name in "xyz":
        make_base(tmp_path / name, noise(65536))
    (family,) = families(tmp_path)
    assert (family.title, len(family.members), family.severity) == (None, 3, "good")


def test_what_is_about_no_image_is_kept_apart(herd):
    clone(herd / "a", herd / "alone")
    (herd / "alone").unlink()
    make_base(herd / "lost", noise(65536))
    clone(herd / "lost", herd / "l")
    (herd / "l").unlink()
    (herd / "lost").unlink()
    assert [(one.kind.value, one.path.name) for one in families_of(overview([herd]))[1]] == [("lost-image", "lost")]


def test_lines_say_where_the_tree_goes_on(herd):
    make_overlay(herd / "a1-1", "a1")
    lines = {member.node.path.name: member.open_lines for family in families(herd) for member in family.members}
    assert (lines["a"], lines["a1"], lines["a1-1"], lines["a2"]) == ((), (True,), (True, False), (False,))


def test_a_chain_that_is_deeper_than_is_drawn_has_no_lines(tmp_path):
    make_base(tmp_path / "0", noise(65536))
    for number in range(1, DEEPEST_DRAWN + 3):
        make_overlay(tmp_path / str(number), str(number - 1))
    (family,) = families(tmp_path)
    assert [len(member.open_lines) for member in family.members[-3:]] == [DEEPEST_DRAWN, 0, 0]
