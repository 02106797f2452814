"""Who may look at the page, and at what of it."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import pytest

from cowherd.service.web.callers import NoAuth
from cowherd.service.web.errors import Forbidden
from cowherd.service.web.page.visitor import visitor
from tests.service.web.images.test_members import clients as clients  # noqa: PLC0414  # a fixture
from tests.service.web.page.furnished import add_image, damage, records
from tests.service.web.page.test_index import words_of
from tests.service.web.running import Client, running
from tests.service.web.test_keystone import identity as identity  # noqa: PLC0414  # a fixture
from tests.service.web.test_keystone import token


def basic(password: str, user: str = "anybody") -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def test_a_browser_is_asked_for_a_token_and_gives_it_as_password(clients):
    nobody, secret = clients["nobody"], clients["owner"].headers["X-Auth-Token"]
    asked = nobody.get("/cowherd/")
    assert (asked.status, asked.headers["www-authenticate"]) == (401, 'Basic realm="cowherd", charset="UTF-8"')
    assert b"Give a token of this service as the password" in asked.body
    assert nobody.get("/cowherd/", authorization=basic(secret)).status == 200
    assert nobody.get("/cowherd/", authorization=basic(secret, "")).status == 200
    assert clients["owner"].get("/cowherd/").status == 200


@pytest.mark.parametrize("header", ["", "Basic", "Basic !", "Basic /w==", f"Basic {base64.b64encode(b'x').decode()}", "Bearer x"])
def test_what_holds_no_token_is_asked_for_one(clients, header):
    assert clients["nobody"].get("/cowherd/", authorization=header).status == 401
    assert clients["nobody"].get("/cowherd/", authorization=basic("guess")).status == 401


@pytest.mark.parametrize("path", ["/v2/images", "/cowherd/v1/images/x/lineage", "/cowherd/v1/uploads", "/cowherd/imagesx"])
def test_a_password_counts_for_the_page_only(clients, path):
    """A browser sends it along with whatever a page of another site makes it ask for."""
    password = basic(clients["admin"].headers["X-Auth-Token"])
    assert clients["nobody"].get(path, authorization=password).status == 401


def test_who_has_no_role_for_images_sees_none(clients):
    assert clients["stranger"].get("/cowherd/").status == 403


def test_a_token_of_the_identity_service_is_a_password_too(identity, tmp_path):
    identity.answers["known"] = token(project="one", roles=("reader",))
    with running(tmp_path, "auth=keystone", f"keystone={identity.url}/v3") as client:
        assert client.get("/cowherd/", authorization=basic("known")).status == 200
        refused = client.get("/cowherd/", authorization=basic("unknown"))
    assert (refused.status, refused.headers["www-authenticate"].split()[0]) == (401, "Basic")


@pytest.fixture
def three(clients, tmp_path):
    """Images of two projects: one of each of its own, and one that everybody sees, all damaged. Their ids by names."""
    with records(tmp_path) as connection:
        images = [
            add_image(connection, "ones", owner="one", visibility="private"),
            add_image(connection, "twos", owner="two", visibility="private"),
            add_image(connection, "everybodys", owner="two", visibility="public"),
            add_image(connection, "unlisted", owner="two", visibility="community"),
        ]
        for image in images:
            damage(connection, image)
    return {image.name: image.id for image in images}


def test_a_project_sees_what_it_may_and_nothing_of_the_stores(clients, three):
    words = words_of(clients["reader"].get("/cowherd/").body.decode())
    assert "for the project one" in words
    assert "Images of your project are not whole: ones" in words
    assert ("everybodys" in words, "twos" in words, "unlisted" in words) == (True, False, False)
    assert ("Stores" in words, "stored once" in words) == (False, False)


def test_an_administrator_sees_all(clients, three):
    words = words_of(clients["admin"].get("/cowherd/").body.decode())
    assert all(name in words for name in three)
    assert "No: 4 contents damaged." in words


def test_what_was_refused_and_is_under_way_is_told_to_its_project(clients):
    image = clients["owner"].create(name="mine", disk_format="qcow2", container_format="bare")
    answer = clients["owner"].ask("PUT", f"/v2/images/{image['id']}/file", b"no", content_type="application/octet-stream")
    assert answer.status == 415
    told = {
        name: "refused by the check" in words_of(clients[name].get("/cowherd/").body.decode())
        for name in ("owner", "other", "admin")
    }
    assert told == {"owner": True, "other": False, "admin": True}


def test_of_a_strangers_image_only_what_the_api_shows_is_told(clients, three):
    def words(client: Client, name: str) -> str:
        return words_of(client.get(f"/cowherd/images/{three[name]}").body.decode())

    own, other = words(clients["other"], "everybodys"), words(clients["reader"], "everybodys")
    for told in ("What happened", "What is wrong, and what to do", "what is damaged"):
        assert (told in own, told in other) == (True, False)
    assert clients["reader"].get(f"/cowherd/images/{three['twos']}").status == 404
    assert clients["nobody"].get(f"/cowherd/images/{three['twos']}").status == 401


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        *(("127.0.0.1:1", True), ("[::1]", True), ("localhost", True), ("images.example", True)),
        *(("evil.example", False), ("", False), ("[", False), ("localhost.evil.example:9292", False)),
    ],
)
def test_a_name_that_a_stranger_chose_does_not_lead_to_a_page_for_everybody(host, allowed):
    settings = SimpleNamespace(auth="none", public_endpoint="https://images.example/")
    service = SimpleNamespace(settings=settings, auth=NoAuth())
    call = SimpleNamespace(service=service, header={"host": host}.get)
    if allowed:
        assert visitor(call).roles == {"admin"}
    else:
        with pytest.raises(Forbidden, match="under the address of this host only"):
            visitor(call)
