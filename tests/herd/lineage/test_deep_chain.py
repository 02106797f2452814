"""Chains of very many images: what looks at a herd takes time in proportion to them, and no more than that."""

from __future__ import annotations

import json
import os

import pytest

from bench.herds import header, write_image
from cowherd.cli.guard.main import main
from cowherd.herd.lineage import scan as scanning
from cowherd.herd.lineage.book.query import places_under
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.report.overview import overview
from cowherd.herd.seals import quick_check as conditions
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.verify import verify

SEALED = 14
DEEP = 3000


def make_chain(folder, images: int) -> None:
    for number in range(images):
        write_image(folder / f"i-{number:04}", header(f"i-{number - 1:04}" if number else ""))


@pytest.fixture
def sealed(tmp_path):
    """A chain in which every image is sealed."""
    make_chain(tmp_path, SEALED)
    for number in range(SEALED):
        seal(tmp_path / f"i-{number:04}", force=True)  # nothing but a header has been written of them
    return tmp_path


@pytest.fixture
def looks(monkeypatch):
    """The files whose identities are compared with those of a seal."""
    seen: list[str] = []
    compare = conditions.of_file
    monkeypatch.setattr(
        conditions, "of_file", lambda path, *known: (seen.append(os.path.basename(path)), compare(path, *known))[1]
    )
    return seen


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A chain of thousands that nothing is known of."""
    folder = tmp_path_factory.mktemp("deep")
    make_chain(folder, DEEP)
    return folder


def test_each_image_of_a_sealed_chain_is_looked_at_once(sealed, looks):
    assert [row.status.value for row in verify(herd=[sealed])] == ["ok"] * SEALED
    assert sorted(looks) == [f"i-{number:04}" for number in range(SEALED)]


def test_each_image_is_looked_at_once_from_the_end_of_the_chain_too(sealed, looks):
    lineage = Lineage(scanning.scan(places_under([sealed])))
    top = lineage.find(sealed / f"i-{SEALED - 1:04}")
    assert conditions.condition(lineage, top).status.value == "ok"
    assert len(looks) == SEALED


def test_a_touched_image_far_below_shows_at_the_end_of_the_chain(sealed):
    os.utime(sealed / "i-0003", ns=(1, 1))
    rows = verify([sealed / f"i-{SEALED - 1:04}"])
    assert [row.status.value for row in rows] == ["ok"] * 3 + ["touched"] * (SEALED - 3)
    assert "below it" in rows[-1].detail
    assert "i-0003" in rows[-1].detail


def test_a_refresh_from_below_upwards_puts_the_whole_chain_in_order(sealed):
    os.utime(sealed / "i-0000", ns=(1, 1))
    assert {row.status.value for row in verify(herd=[sealed], full=True, refresh_seals=True)} == {"ok"}
    assert {row.status.value for row in verify(herd=[sealed])} == {"ok"}


def test_a_tree_says_how_deep_images_lie_where_it_can_not_draw_it(deep, capsys):
    assert main(["tree", str(deep)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == DEEP + 1
    assert f"({DEEP - 1}) " in lines[-1]
    assert f"({DEEP - 1}) " not in lines[1]
    assert max(map(len, lines)) < 500


def test_the_doctor_names_the_end_of_a_chain_that_is_too_long(deep, capsys):
    assert main(["doctor", str(deep), "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    long = [finding for finding in findings if finding["kind"] == "deep-chain"]
    assert [os.path.basename(finding["path"]) for finding in long] == [f"i-{DEEP - 1:04}"]


def test_verify_goes_along_a_chain_of_any_length(deep):
    rows = verify([deep / f"i-{DEEP - 1:04}"])
    assert len(rows) == DEEP
    assert {row.status.value for row in rows} == {"unsealed"}


def test_an_overview_looks_through_the_herd_once(tmp_path, monkeypatch):
    make_chain(tmp_path, 3)
    walks = []
    walk = scanning.walk
    monkeypatch.setattr(scanning, "walk", lambda place, *rest: (walks.append(place), walk(place, *rest))[1])
    assert len(overview([tmp_path]).tree.nodes) == 3
    assert walks == [str(tmp_path)]
