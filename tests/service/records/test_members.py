"""Members: the projects that an image is lent to."""

from __future__ import annotations

import pytest

from cowherd.service.records.faults import ImageNotFound, MemberExists, MemberNotFound, Unstorable
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image, delete_image
from cowherd.service.records.members import add_member, change_member, delete_member, list_members, member_status, read_member


@pytest.fixture
def image(connection) -> str:
    create_image(connection, Image(id="i1"))
    return "i1"


def test_a_new_member_is_pending(connection, image):
    member = add_member(connection, image, "p\n1")
    assert (member.status, member.created_at) == ("pending", member.updated_at)
    assert read_member(connection, image, "p\n1") == member
    assert member_status(connection, image, "p\n1") == "pending"


def test_members_are_listed_in_the_order_of_their_coming(connection, image):
    added = [add_member(connection, image, name) for name in ("z", "a", "m")]
    assert list_members(connection, image) == added
    assert list_members(connection, "none") == []


def test_a_member_is_added_once(connection, image):
    add_member(connection, image, "p")
    change_member(connection, image, "p", "accepted")
    with pytest.raises(MemberExists):
        add_member(connection, image, "p")
    assert member_status(connection, image, "p") == "accepted"


def test_a_member_answers(connection, image):
    before = add_member(connection, image, "p")
    after = change_member(connection, image, "p", "rejected")
    assert (after.status, after.created_at) == ("rejected", before.created_at)
    assert after.updated_at > before.updated_at


def test_a_deleted_member_is_gone(connection, image):
    add_member(connection, image, "p")
    add_member(connection, image, "q")
    delete_member(connection, image, "p")
    assert [member.member for member in list_members(connection, image)] == ["q"]
    assert member_status(connection, image, "p") is None


def test_what_is_not_lent_is_not_found(connection, image):
    add_member(connection, image, "p")
    for ask in (read_member, delete_member):
        with pytest.raises(MemberNotFound):
            ask(connection, image, "q")
    with pytest.raises(MemberNotFound):
        change_member(connection, image, "q", "accepted")
    assert member_status(connection, image, None) is None


def test_an_image_that_is_not_there_is_lent_to_nobody(connection):
    with pytest.raises(ImageNotFound):
        add_member(connection, "none", "p")


def test_a_member_that_can_not_be_stored_is_refused(connection, image):
    with pytest.raises(Unstorable):
        add_member(connection, image, "m" * 256)


def test_members_go_with_their_image(connection, image):
    add_member(connection, image, "p")
    delete_image(connection, image)
    assert list_members(connection, image) == []
