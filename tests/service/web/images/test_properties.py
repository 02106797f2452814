"""What a new image may come with."""

from __future__ import annotations

import pytest

from cowherd.service.web.errors import BadRequest, Forbidden
from cowherd.service.web.images.properties import new_image_values


def test_base_properties_are_told_from_the_others():
    document = {"name": "a", "min_ram": 1, "tags": ["t"], "word": "w", "id": "0a1b2c3d-0000-4000-8000-000000000000"}
    base, others = new_image_values(document)
    assert others == {"word": "w"}
    assert base == {name: value for name, value in document.items() if name != "word"}


@pytest.mark.parametrize(
    "document",
    [
        {"self": "x"},
        {"stores": "x"},
        {"status": "active"},
        {"size": 1},
        {"checksum": "x"},
        {"locations": []},
        {"location": "x"},
        {"os_glance_import_task": "x"},
        {"cowherd_base": "x"},
    ],
)
def test_what_is_read_only_or_reserved_is_forbidden(document):
    with pytest.raises(Forbidden):
        new_image_values(document)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"name": 1},
        {"id": "x"},
        {"id": "0a1b2c3d-0000-4000-8000-000000000000\n"},
        {"word": 1},
        {"word": None},
        {"word": "a\0b"},
        {"a\0b": "word"},
        {"w" * 256: "x"},
        {"disk_format": "qed"},
        {"tags": ["x" * 256]},
        {"tags": [1]},
        {"status": "well"},
        {"min_disk": True},
    ],
)
def test_what_the_schema_does_not_allow_is_a_bad_request(document):
    with pytest.raises(BadRequest):
        new_image_values(document)
