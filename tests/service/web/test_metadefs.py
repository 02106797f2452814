"""The vocabulary for properties."""

from __future__ import annotations

import pytest

from tests.service.web.images.test_members import clients as clients  # noqa: PLC0414  # a fixture

N = "/v2/metadefs/namespaces"
PROPERTY = {"name": "p", "title": "t", "type": "string", "enum": ["a", "b"]}


@pytest.fixture
def namespace(client):
    """The path of a namespace that defines nothing."""
    assert client.ask("POST", N, {"namespace": "n"}).status == 201
    return f"{N}/n"


def test_a_namespace_is_made_changed_renamed_and_deleted(client, namespace):
    assert client.ask("POST", N, {"namespace": "n"}).status == 409
    shown = client.get(namespace).json
    assert (shown["visibility"], shown["protected"], shown["self"]) == ("private", False, namespace)
    changed = client.ask("PUT", namespace, {"namespace": "m", "description": "d", "protected": True})
    assert (changed.status, changed.json["description"]) == (200, "d")
    assert client.get(namespace).status == 404
    assert client.ask("DELETE", f"{N}/m").status == 403
    assert client.ask("PUT", f"{N}/m", {"namespace": "m"}).status == 200
    assert client.ask("DELETE", f"{N}/m").status == 204
    assert client.ask("DELETE", f"{N}/m").status == 404


@pytest.mark.parametrize(
    ("document", "status"),
    [
        *(({"namespace": name}, 400) for name in ("", "x" * 81, None, 7)),
        ({"namespace": "v", "visibility": "shared"}, 400),
        ({"namespace": "v", "unknown": 1}, 400),
        ({"namespace": "v", "objects": [{}]}, 400),
        ({"namespace": "v", "resource_type_associations": [{}]}, 400),
        ({"namespace": "v", "self": "x"}, 403),
        ({}, 400),
        ([], 400),
    ],
)
def test_a_namespace_is_as_its_schema_says(client, document, status):
    assert client.ask("POST", N, document).status == status
    assert client.get(N).json["namespaces"] == []


def test_a_namespace_is_made_with_all_that_it_defines(client):
    document = {
        "namespace": "n",
        "resource_type_associations": [{"name": "R", "prefix": "x:"}],
        "properties": {"p": {"title": "t", "type": "string"}},
        "objects": [{"name": "o", "properties": {"q": {"title": "t", "type": "integer", "default": 3}}}],
        "tags": [{"name": "t"}],
    }
    made = client.ask("POST", N, document)
    assert made.status == 201
    assert made.headers["location"].endswith(f"{N}/n")
    shown = client.get(f"{N}/n").json
    assert shown["properties"] == document["properties"]
    assert shown["objects"][0]["properties"]["q"]["default"] == "3"
    assert shown["tags"] == [{"name": "t"}]
    assert shown["resource_type_associations"][0]["prefix"] == "x:"
    assert client.get(f"{N}/n?resource_type=R").json["properties"] == {"x:p": document["properties"]["p"]}
    assert client.ask("DELETE", f"{N}/n").status == 204
    assert client.get(f"{N}/n/objects").status == 404


def test_pages_of_namespaces_follow_each_other(client):
    for name in "abc":
        client.ask("POST", N, {"namespace": name})
    assert [one["namespace"] for one in client.get(N).json["namespaces"]] == ["c", "b", "a"]
    first = client.get(f"{N}?limit=2&sort_key=namespace&sort_dir=asc").json
    assert [one["namespace"] for one in first["namespaces"]] == ["a", "b"]
    second = client.get(first["next"]).json
    assert [one["namespace"] for one in second["namespaces"]] == ["c"]
    assert "next" not in second


@pytest.mark.parametrize(
    ("query", "status"),
    [("limit=x", 400), ("limit=-1", 400), ("sort_key=x", 400), ("sort_dir=x", 400), ("visibility=x", 400), ("marker=x", 404)],
)
def test_a_list_that_makes_no_sense_is_refused(client, query, status):
    assert client.get(f"{N}?{query}").status == status


def test_a_list_of_objects_has_all_of_them_whatever_the_limit(client, namespace):
    for name in ("a", "b"):
        client.ask("POST", f"{namespace}/objects", {"name": name})
    assert len(client.get(f"{namespace}/objects?limit=1").json["objects"]) == 2
    assert client.get(f"{namespace}/objects?limit=0").status == 400


@pytest.mark.parametrize(
    ("kind", "document"),
    [("objects", {"name": "a", "required": ["p"], "properties": {"p": PROPERTY}}), ("properties", {**PROPERTY, "name": "a"})],
)
def test_objects_and_properties_are_made_changed_renamed_and_deleted(client, namespace, kind, document):
    path = f"{namespace}/{kind}"
    assert client.ask("POST", path, document).status == 201
    assert client.ask("POST", path, document).status == 409
    shown = client.get(f"{path}/a").json
    assert {name: shown[name] for name in document} == document
    assert client.ask("PUT", f"{path}/a", {**document, "name": "b"}).json["name"] == "b"
    assert (client.get(f"{path}/a").status, client.get(f"{path}/b").status) == (404, 200)
    assert client.ask("PUT", f"{path}/a", document).status == 404
    assert client.ask("POST", path, {**document, "unknown": 1}).status == 400
    assert client.ask("DELETE", f"{path}/b").status == 204
    assert client.ask("DELETE", f"{path}/b").status == 404
    client.ask("POST", path, document)
    assert len(client.get(path).json[kind]) == 1
    assert client.ask("DELETE", path).status == 204
    assert len(client.get(path).json[kind]) == 0


def test_a_property_of_an_object_is_as_its_schema_says(client, namespace):
    assert client.ask("POST", f"{namespace}/objects", {"name": "o", "properties": {"p": {"type": "string"}}}).status == 400


def test_tags_are_replaced_or_added(client, namespace):
    path = f"{namespace}/tags"

    def names(query=""):
        return [one["name"] for one in client.get(path + query).json["tags"]]

    assert client.ask("POST", f"{path}/t").status == 201
    assert client.ask("POST", f"{path}/t").status == 409
    assert client.ask("POST", f"{path}/{'x' * 81}").status == 400
    assert client.ask("POST", path, {"tags": [{"name": "a"}, {"name": "b"}]}).status == 201
    assert client.ask("POST", path, {"tags": [{"name": "c"}]}, x_openstack_append="True").status == 201
    assert names() == ["c", "b", "a"]
    assert names("?limit=1") == ["c"]
    assert names("?marker=b") == ["a"]
    assert names("?sort_key=name&sort_dir=asc") == ["a", "b", "c"]
    assert client.ask("POST", path, {"tags": [{"name": "a"}, {"name": "a"}]}).status == 409
    assert names() == ["c", "b", "a"]
    assert client.ask("PUT", f"{path}/a", {"name": "z"}).json["name"] == "z"
    assert client.ask("PUT", f"{path}/z", {"name": "b"}).status == 409
    assert client.ask("DELETE", f"{path}/b").status == 204
    assert client.ask("POST", path, {}).status == 400
    assert client.ask("DELETE", path).status == 204
    assert names() == []


def test_types_of_resources_are_remembered(client, namespace):
    path = f"{namespace}/resource_types"
    assert client.ask("POST", path, {"name": "R", "prefix": "x:", "properties_target": "image"}).status == 201
    assert client.ask("POST", path, {"name": "R"}).status == 409
    assert client.ask("POST", path, {"prefix": "x"}).status == 400
    assert client.get(path).json["resource_type_associations"][0]["properties_target"] == "image"
    assert [one["namespace"] for one in client.get(f"{N}?resource_types=R,S").json["namespaces"]] == ["n"]
    assert client.get(f"{N}?resource_types=S").json["namespaces"] == []
    client.ask("POST", f"{namespace}/properties", PROPERTY)
    assert client.get(f"{namespace}/properties/x:p?resource_type=R").json["name"] == "p"
    assert client.get(f"{namespace}/properties/p?resource_type=R").status == 404
    assert client.get(f"{namespace}/properties/x:p?resource_type=S").status == 404
    assert client.ask("DELETE", f"{path}/R").status == 204
    assert client.ask("DELETE", f"{path}/R").status == 404
    assert [one["name"] for one in client.get("/v2/metadefs/resource_types").json["resource_types"]] == ["R"]


def test_only_administrators_define_and_private_namespaces_are_their_projects(clients):
    assert clients["owner"].ask("POST", N, {"namespace": "n"}).status == 403
    for name, visibility, owner in (("open", "public", "office"), ("ones", "private", "one")):
        document = {"namespace": name, "visibility": visibility, "owner": owner}
        assert clients["admin"].ask("POST", N, document).status == 201
    seen = {who: [one["namespace"] for one in clients[who].get(N).json["namespaces"]] for who in ("admin", "reader", "other")}
    assert seen == {"admin": ["ones", "open"], "reader": ["ones", "open"], "other": ["open"]}
    assert (clients["other"].get(f"{N}/ones").status, clients["owner"].get(f"{N}/ones").status) == (404, 200)
    for path in ("open/objects", "open/properties", "open/tags"):
        assert clients["owner"].ask("DELETE", f"{N}/{path}").status == 403
        assert clients["other"].ask("DELETE", f"{N}/{path.replace('open', 'ones')}").status == 404
