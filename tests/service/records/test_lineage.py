"""Lineage: overlays and bases, known by content."""

from __future__ import annotations

import pytest

from cowherd.service.records.blobs import Blob, record_blob
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image, delete_image, read_image
from cowherd.service.records.lineage import (
    Claim,
    ancestors,
    base_of,
    children_of_content,
    content_of,
    images_of_content,
    record_base,
    set_base,
)


def create(connection, *names: str) -> None:
    """Images whose blobs are their own and whose content is the first letter of their name."""
    for name in names:
        record_blob(connection, Blob(digest=name, size=1, content_digest=name[0]))
        create_image(connection, Image(id=name, blob=name))


@pytest.fixture
def chain(connection):
    """The image c on b on a, and b2 on a, and a2 with a's content."""
    create(connection, "a", "a2", "b", "b2", "c")
    record_base(connection, Claim("b", "a", "a", "binding"))
    record_base(connection, Claim("b2", "a", "a", "statement"))
    record_base(connection, Claim("c", "b", "b", "binding"))
    return connection


def test_an_image_tells_its_base(chain):
    assert (read_image(chain, "c").base, read_image(chain, "c").base_content) == ("b", "b")
    assert (read_image(chain, "a").base, read_image(chain, "a").base_content) == (None, None)
    assert base_of(chain, "b2") == Claim("b2", "a", "a", "statement")
    assert base_of(chain, "a") is None


def test_ancestors_go_down_to_the_root(chain):
    assert [claim.base for claim in ancestors(chain, "c")] == ["b", "a"]
    assert ancestors(chain, "a") == []


def test_ancestors_end_where_a_base_is_not_known(chain):
    delete_image(chain, "a")
    assert ancestors(chain, "c") == [Claim("c", "b", "b", "binding"), Claim("b", "a", None, "binding")]


def test_ancestors_end_where_claims_go_round(chain):
    record_base(chain, Claim("a", "c", "c", "statement"))
    assert [claim.child for claim in ancestors(chain, "c")] == ["c", "b", "a"]


def test_images_of_one_content_stand_in_for_each_other(chain):
    assert content_of(chain, "a2") == "a"
    assert images_of_content(chain, "a") == ["a", "a2"]
    assert children_of_content(chain, "a") == ["b", "b2"]
    for child in ("b", "b2"):
        set_base(chain, child, "a2")
    delete_image(chain, "a")
    assert [claim.base for claim in ancestors(chain, "c")] == ["b", "a2"]


def test_an_image_without_bytes_has_no_content(chain):
    create_image(chain, Image(id="empty"))
    assert content_of(chain, "empty") is None
    assert content_of(chain, "none") is None
    assert images_of_content(chain, "none") == []


def test_a_claim_goes_with_the_child(chain):
    delete_image(chain, "c")
    assert children_of_content(chain, "b") == []
