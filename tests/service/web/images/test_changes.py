"""The changes that a PATCH asks for."""

from __future__ import annotations

import pytest

from cowherd.service.web.errors import BadRequest, Forbidden, UnsupportedMedia
from cowherd.service.web.images.changes import parse_changes

OLD = "application/openstack-images-v2.0-json-patch"
NEW = "application/openstack-images-v2.1-json-patch"


def changes(document, media=NEW):
    return [tuple(change) for change in parse_changes(media, lambda: document)]


def test_the_newer_media_type_names_operation_path_and_value():
    assert changes([{"op": "replace", "path": "/name", "value": "new"}]) == [("replace", "name", None, "new", True)]
    assert changes([{"op": "remove", "path": "/word"}]) == [("remove", "word", None, None, True)]


def test_the_older_media_type_has_the_operation_as_a_key():
    assert changes([{"replace": "/name", "value": "new"}], OLD) == [("replace", "name", None, "new", False)]


def test_a_name_may_have_slashes_and_tildes_that_are_escaped():
    assert changes([{"op": "add", "path": "/a~1b~0c", "value": "x"}])[0][1] == "a/b~c"


def test_an_item_of_the_locations_is_named_by_its_place():
    value = {"url": "http://a/b", "metadata": {}}
    assert changes([{"op": "add", "path": "/locations/-", "value": value}]) == [("add", "locations", "-", value, True)]


@pytest.mark.parametrize("media", ["application/json-patch+json", "application/json", ""])
def test_other_media_types_are_refused_with_those_that_are_taken(media):
    with pytest.raises(UnsupportedMedia) as caught:
        parse_changes(media, lambda: pytest.fail("the body was read"))
    assert caught.value.headers == {"Accept-Patch": f"{OLD}, {NEW}"}


@pytest.mark.parametrize(
    "change",
    [
        {"op": "move", "path": "/name"},
        {"op": ["add"], "path": "/name"},
        {"path": "/name", "value": "x"},
        {"op": "add", "value": "x"},
        {"op": "add", "path": "/name"},
        {"op": "add", "path": "name", "value": "x"},
        {"op": "add", "path": 1, "value": "x"},
        {"op": "add", "path": "/a/b", "value": "x"},
        {"op": "add", "path": "/a//b", "value": "x"},
        {"op": "add", "path": "/a/", "value": "x"},
        {"op": "add", "path": "/a~2b", "value": "x"},
        {"op": "add", "path": "/a~", "value": "x"},
        {"op": "add", "path": "/locations", "value": []},
        {"op": "replace", "path": "/locations/1", "value": []},
        {"op": "replace", "path": "/name", "value": 1},
        {"op": "replace", "path": "/name", "value": "x" * 256},
        {"op": "replace", "path": "/tags", "value": "x"},
        {"op": "replace", "path": "/min_ram", "value": -1},
        {"op": "replace", "path": "/min_ram", "value": 1 << 31},
        {"op": "replace", "path": "/protected", "value": "true"},
        {"op": "replace", "path": "/word", "value": None},
        {"op": "replace", "path": "/word", "value": "nul\0"},
        {"op": "replace", "path": "/visibility", "value": "secret"},
        "replace",
    ],
)
def test_a_change_that_makes_no_sense_is_refused(change):
    with pytest.raises(BadRequest):
        changes([change])


@pytest.mark.parametrize("change", [{"add": "/a", "remove": "/a", "value": "x"}, {"op": "add", "path": "/a", "value": "x"}, {}])
def test_a_change_of_the_older_type_has_exactly_one_operation(change):
    with pytest.raises(BadRequest):
        changes([change], OLD)


def test_the_body_is_a_list():
    with pytest.raises(BadRequest):
        changes({"op": "add", "path": "/a", "value": "x"})


@pytest.mark.parametrize(
    "name",
    [
        "status",
        "checksum",
        "size",
        "id",
        "self",
        "stores",
        "location",
        "deleted_at",
        "os_glance_a",
        "cowherd_base",
        "os_hash_algo",
    ],
)
@pytest.mark.parametrize("operation", ["add", "remove"])
def test_what_is_the_services_own_is_refused(name, operation):
    with pytest.raises(Forbidden):
        changes([{"op": operation, "path": f"/{name}", "value": "x"}])
