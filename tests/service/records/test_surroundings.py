"""What surrounds the images of a page, asked for all of them at once."""

from __future__ import annotations

import pytest

from cowherd.service.records import surroundings as module
from cowherd.service.records.blobs import Blob, record_blob, record_place
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image, read_image
from cowherd.service.records.lineage import Claim, record_base, set_base
from cowherd.service.records.members import add_member
from cowherd.service.records.query import Viewer
from cowherd.service.records.surroundings import names_of, overlays_on, surroundings

ALL = Viewer(None, everything=True)


def add(connection, name: str, base: str | None = None, content: str | None = None, **more: object) -> None:
    """Records an image with a blob of its own, an overlay of `base`."""
    record_blob(connection, Blob(digest=f"blob {name}", size=1, content_digest=content or f"content {name}"))
    record_place(connection, f"blob {name}", "s", "upload")
    create_image(connection, Image(id=name, name=f"name {name}", status="active", blob=f"blob {name}", **more))
    if base is not None:
        record_base(connection, Claim(name, f"content {base}", base, "binding"))


@pytest.fixture
def chain(connection):
    """Images of which each stands on the one before: root (of another project), a, b, c; and d beside b."""
    add(connection, "root", owner="other", visibility="private")
    for name, base in (("a", "root"), ("b", "a"), ("c", "b"), ("d", "a")):
        add(connection, name, base, owner="mine", visibility="private")
    return connection


def around(connection, *ids: str, viewer: Viewer = ALL):
    return surroundings(connection, [read_image(connection, one) for one in ids], viewer)


def test_what_images_stand_on_is_found_once_and_without_themselves(chain):
    assert sorted(image.id for image in around(chain, "c", "d").under) == ["a", "b", "root"]
    assert [image.id for image in around(chain, "b", "a").under] == ["root"]


def test_what_the_viewer_does_not_see_is_left_out(chain):
    assert sorted(image.id for image in around(chain, "c", viewer=Viewer("mine")).under) == ["a", "b"]


def test_claims_that_go_in_a_circle_come_to_an_end(chain):
    record_base(chain, Claim("root", "content c", "c", "statement"))
    assert sorted(image.id for image in around(chain, "d").under) == ["a", "b", "c", "root"]


def test_of_a_long_chain_a_part_is_looked_up(chain, monkeypatch):
    monkeypatch.setattr(module, "MOST_UNDER", 2)
    assert len(around(chain, "c").under) == 2


def test_overlays_are_counted_by_the_content_that_they_stand_on(chain):
    set_base(chain, "d", None)
    assert around(chain, "d", "c").above == {"root": 1, "a": 2, "b": 1}


def test_nothing_stands_on_a_new_overlay_though_it_shows_what_its_base_does(chain):
    add(chain, "new", "a", content="content a")
    assert around(chain, "new").above == {"a": 3, "root": 1}


def test_sharing_members_and_places_are_told(chain):
    create_image(chain, Image(id="twin", status="active", blob="blob c", owner="other"))
    add_member(chain, "c", "one")
    add_member(chain, "c", "two")
    found = around(chain, "c")
    assert (found.sharing["blob c"], found.sharing["blob a"]) == (2, 1)
    assert found.members == {"c": 2}
    assert [(place.store, place.state) for place in found.places["blob c"]] == [("s", "whole")]


def test_nothing_surrounds_nothing(connection):
    found = surroundings(connection, [], ALL)
    assert (found.under, found.above, found.sharing, found.members, found.places) == ([], {}, {}, {}, {})


def test_the_overlays_on_a_content_are_those_that_the_viewer_sees(chain):
    add(chain, "foreign", "a", owner="other", visibility="private")
    assert [image.id for image in overlays_on(chain, "content a", ALL, 9)] == ["b", "d", "foreign"]
    assert [image.id for image in overlays_on(chain, "content a", Viewer("mine"), 9)] == ["b", "d"]
    assert len(overlays_on(chain, "content a", ALL, 2)) == 2


def test_names_are_found_by_ids(chain):
    assert names_of(chain, {"a", "b", "gone"}) == {"a": "name a", "b": "name b"}
