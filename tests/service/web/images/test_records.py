"""The records of images, as clients make and see them."""

from __future__ import annotations

import itertools

import pytest

from tests.service.web.running import running

ID = "0a1b2c3d-0000-4000-8000-000000000001"


def ids(answer):
    return [image["name"] for image in answer.json["images"]]


def test_a_new_image_is_told_with_where_it_is(client):
    answer = client.ask("POST", "/v2/images", {"name": "a", "word": "w", "tags": ["t", "t"], "id": ID})
    assert answer.status == 201
    assert answer.headers["location"] == f"http://127.0.0.1:{client.port}/v2/images/{ID}"
    assert answer.headers["openstack-image-store-ids"] == "default"
    assert "copy-image" in answer.headers["openstack-image-import-methods"]
    document = answer.json
    assert document["created_at"] == document["updated_at"]
    assert document["created_at"].endswith("Z")
    assert {
        name: document[name] for name in ("id", "name", "word", "tags", "status", "visibility", "self", "file", "schema")
    } == {
        "id": ID,
        "name": "a",
        "word": "w",
        "tags": ["t"],
        "status": "queued",
        "visibility": "shared",
        "self": f"/v2/images/{ID}",
        "file": f"/v2/images/{ID}/file",
        "schema": "/v2/schemas/image",
    }
    assert client.get(f"/v2/images/{ID}").json == document


def test_an_id_is_taken_once(client):
    client.create(id=ID)
    assert client.ask("POST", "/v2/images", {"id": ID}).status == 409


def test_there_are_no_more_properties_and_tags_than_allowed(tmp_path):
    with running(tmp_path, "image_property_quota=2", "image_tag_quota=1") as client:
        assert client.ask("POST", "/v2/images", {"a": "1", "b": "2", "c": "3"}).status == 413
        assert client.ask("POST", "/v2/images", {"tags": ["a", "b"]}).status == 413
        image = client.create(a="1", b="2", tags=["t"])
        assert client.patch(image["id"], ("add", "/c", "3")).status == 413
        assert client.ask("PUT", f"/v2/images/{image['id']}/tags/u").status == 413
        assert client.ask("PUT", f"/v2/images/{image['id']}/tags/t").status == 204


@pytest.mark.parametrize("path", ["/v2/images/x", f"/v2/images/{ID}", f"/v2/images/{ID}/file"])
def test_what_is_not_there_is_not_found(client, path):
    assert client.get(path).status == 404


def test_a_page_is_followed_by_the_next_one_until_there_is_none(client):
    names = [client.create(name=f"n{number}", tags=["a", "b"])["name"] for number in range(5)]
    seen, path = [], "/v2/images?tag=a&tag=b&limit=2&sort=name:asc"
    for _ in range(9):
        answer = client.get(path)
        seen += ids(answer)
        assert answer.json["first"] == "/v2/images?tag=a&tag=b&limit=2&sort=name%3Aasc"
        if "next" not in answer.json:
            break
        path = answer.json["next"]
    assert seen == names


def test_the_newest_image_comes_first(client):
    for name in "abc":
        client.create(name=name)
    assert ids(client.get("/v2/images")) == ["c", "b", "a"]


def test_filters_choose_images(client):
    client.create(name="a", disk_format="raw", min_ram=5, colour="red", tags=["x", "y"], protected=True)
    client.create(name="b,c", disk_format="qcow2", min_ram=6, colour="blue", tags=["x"], visibility="public")
    client.create(name="hidden", os_hidden=True, visibility="community")
    for query, expected in {
        "name=a": ["a"],
        "name=in:a,%22b,c%22": ["a", "b,c"],
        "name=eq:a": ["a"],
        "disk_format=in:raw,qcow2": ["a", "b,c"],
        "min_ram_min=6": ["b,c"],
        "min_ram_max=5": ["a"],
        "min_ram=5": ["a"],
        "colour=red": ["a"],
        "colour=red&name=b,c": [],
        "tag=x&tag=y": ["a"],
        "visibility=public": ["b,c"],
        "protected=true": ["a"],
        "os_hidden=true&visibility=all": ["hidden"],
        "status=active": [],
        "created_at=gt:2020-01-01T00:00:00Z": ["a", "b,c"],
        "created_at=lt:2020-01-01": [],
        "updated_at=gte:2020-01-01T00:00:00%2B02:00": ["a", "b,c"],
    }.items():
        assert sorted(ids(client.get(f"/v2/images?{query}"))) == expected, query


def test_pages_are_sorted_as_asked(client):
    for name, ram in (("a", 2), ("b", 1), ("c", 2)):
        client.create(name=name, disk_format="raw" if ram == 2 else "iso")
    for query, expected in {
        "sort=name": "cba",
        "sort=name:asc": "abc",
        "sort=disk_format:asc,name:desc": "bca",
        "sort_key=name&sort_dir=asc": "abc",
        "sort_key=disk_format&sort_key=name&sort_dir=desc": "cab",
        "sort_key=disk_format&sort_dir=desc&sort_key=name&sort_dir=asc": "acb",
        "sort_dir=asc": "abc",
    }.items():
        assert "".join(ids(client.get(f"/v2/images?{query}"))) == expected, query


@pytest.mark.parametrize(
    "query",
    [
        *("limit=-1", "limit=a", "marker=none", "marker=", "sort=colour", "sort=name:up", "sort_key=colour", "sort_dir=up"),
        *("sort=name&sort_key=name", "sort_key=name&sort_dir=asc&sort_dir=desc", "name=like:a", "name=in:a%22b", "size_min=a"),
        *(
            "visibility=none",
            "member_status=none",
            "protected=yes",
            "os_hidden=1",
            "created_at=gt:then",
            "created_at=about:2020-01-01",
        ),
        *("changes-since=2020-01-01", "created_at=then"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(client, query):
    assert client.get(f"/v2/images?{query}").status == 400


def test_a_page_has_no_more_images_than_allowed(tmp_path):
    with running(tmp_path, "api_limit_max=2", "limit_param_default=1") as client:
        for name in "abc":
            client.create(name=name)
        assert len(ids(client.get("/v2/images"))) == 1
        assert len(ids(client.get("/v2/images?limit=1000"))) == 2
        assert ids(client.get("/v2/images?limit=0")) == []


def test_changes_are_made_one_after_the_other(client):
    image = client.create(name="a", word="w", tags=["t"])
    answer = client.patch(
        image["id"],
        ("replace", "/name", "b"),
        ("add", "/new", "1"),
        ("replace", "/new", "2"),
        ("remove", "/word"),
        ("replace", "/tags", ["v", "u"]),
        ("replace", "/protected", True),
        ("add", "/a~1b", "x"),
    )
    assert answer.status == 200
    document = client.get(f"/v2/images/{image['id']}").json
    assert document == answer.json
    assert (document["name"], document["new"], document["tags"], document["a/b"]) == ("b", "2", ["u", "v"], "x")
    assert document["protected"] is True
    assert "word" not in document


def test_a_patch_without_changes_shows_the_image(client):
    image = client.create(name="a")
    assert client.patch(image["id"]).json == image


def test_if_one_change_is_refused_none_is_made(client):
    image = client.create(name="a")
    assert client.patch(image["id"], ("replace", "/name", "b"), ("remove", "/none")).status == 409
    assert client.get(f"/v2/images/{image['id']}").json == image


@pytest.mark.parametrize(
    ("version", "change", "status"),
    [
        ("2.1", ("add", "/word", "v"), 200),
        ("2.1", ("replace", "/none", "v"), 409),
        ("2.1", ("remove", "/none"), 409),
        ("2.1", ("remove", "/name"), 403),
        ("2.1", ("replace", "/status", "active"), 403),
        ("2.1", ("replace", "/id", ID), 403),
        ("2.1", ("replace", "/name", 1), 400),
        ("2.2", ("replace", "/name", "b"), 415),
    ],
)
def test_a_change_has_the_status_that_glance_gives(client, version, change, status):
    image = client.create(name="a", word="w")
    assert client.patch(image["id"], change, version=version).status == status


def test_the_older_media_type_adds_only_what_is_not_there(client):
    image = client.create(name="a", word="w")
    media = {"content_type": "application/openstack-images-v2.0-json-patch"}
    path = f"/v2/images/{image['id']}"
    assert client.ask("PATCH", path, [{"add": "/word", "value": "v"}], **media).status == 409
    assert client.ask("PATCH", path, [{"add": "/other", "value": "v"}], **media).json["other"] == "v"
    assert client.ask("PATCH", path, [{"remove": "/other"}], **media).status == 200


def test_an_image_is_deleted_unless_it_is_protected(client):
    image = client.create(protected=True)
    path = f"/v2/images/{image['id']}"
    assert client.ask("DELETE", path).status == 403
    client.patch(image["id"], ("replace", "/protected", False))
    assert client.ask("DELETE", path).status == 204
    assert client.get(path).status == 404
    assert client.ask("DELETE", path).status == 404


def test_tags_are_put_and_deleted(client):
    path = f"/v2/images/{client.create()['id']}"
    assert client.ask("PUT", f"{path}/tags/a%20b").status == 204
    assert client.ask("PUT", f"{path}/tags/{'x' * 256}").status == 400
    assert client.get(path).json["tags"] == ["a b"]
    assert client.ask("DELETE", f"{path}/tags/a%20b").status == 204
    assert client.ask("DELETE", f"{path}/tags/a%20b").status == 404


@pytest.mark.parametrize("action", ["deactivate", "reactivate"])
def test_an_image_without_content_is_neither_taken_out_of_use_nor_into_it(client, action):
    image = client.create()
    assert client.ask("POST", f"/v2/images/{image['id']}/actions/{action}").status == 403


@pytest.mark.parametrize("text", ["line\nbreak", "<b>&amp;</b>", "../../etc/passwd", "☃", "%", "' OR 1=1 --", "a" * 255])
def test_names_are_kept_as_they_are(client, text):
    image = client.create(name=text, tags=[text], **{text: text})
    shown = client.get(f"/v2/images/{image['id']}").json
    assert (shown["name"], shown["tags"], shown[text]) == (text, [text], text)


def test_images_of_one_moment_are_paged_without_loss(client):
    made = {client.create(name="same")["id"] for _ in range(7)}
    path, seen = "/v2/images?limit=3&sort=name", []
    for _ in itertools.count():
        answer = client.get(path).json
        seen += [image["id"] for image in answer["images"]]
        if "next" not in answer:
            break
        path = answer["next"]
    assert len(seen) == 7
    assert set(seen) == made
