"""The images that are to be cached."""

from __future__ import annotations

from cowherd.service.records.cached import add_cached, forget_cached, list_cached
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image, delete_image


def ids(connection):
    return [image.id for image, _ in list_cached(connection)]


def test_images_are_listed_in_the_order_in_which_they_were_asked_for(connection):
    for image_id in "abc":
        create_image(connection, Image(id=image_id, name=image_id.upper(), tags=("t",)))
    for image_id in "bab":
        add_cached(connection, image_id)
    assert [(image.name, image.tags) for image, _ in list_cached(connection)] == [("B", ("t",)), ("A", ("t",))]
    assert all(at.tzinfo for _, at in list_cached(connection))


def test_an_image_that_is_deleted_or_forgotten_is_listed_no_more(connection):
    for image_id in "abc":
        create_image(connection, Image(id=image_id))
        add_cached(connection, image_id)
    forget_cached(connection, "a")
    forget_cached(connection, "a")
    delete_image(connection, "b")
    assert ids(connection) == ["c"]
