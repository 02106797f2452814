"""Who changed what is recorded with the change."""

from __future__ import annotations

import base64
import contextlib
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from sqlalchemy import select

from cowherd.service.records.database import open_database
from cowherd.service.records.events import Event, list_events
from cowherd.service.records.schema import events
from cowherd.service.web.callers import add_token
from cowherd.service.web.openapi import operations
from cowherd.service.web.routes import ROUTES
from tests.service.web.images.test_locations import Site
from tests.service.web.images.test_locations import site as site  # noqa: PLC0414  # a fixture
from tests.service.web.images.test_members import clients as clients  # noqa: PLC0414  # a fixture
from tests.service.web.running import Client, running

OCTETS = {"content_type": "application/octet-stream"}
TUS = {"tus_resumable": "1.0.0"}
CHUNK = {**TUS, "content_type": "application/offset+octet-stream"}
FORMATS = {"disk_format": "raw", "container_format": "bare"}
N = "/v2/metadefs/namespaces"
PROPERTY = {"title": "t", "type": "string"}


class Ask(NamedTuple):
    """A request."""

    path: str
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})


class World:
    """A service with two stores, with an administrator who prepares and asks, and somebody of another project without rights."""

    def __init__(self, port: int, directory: Path, tokens: dict[str, str], url: str):
        self.admin, self.reader = (Client(port, {"X-Auth-Token": tokens[name]}) for name in ("admin", "reader"))
        self.url, self._directory, self._numbers = url, directory, itertools.count()

    def asked(self, client: Client, method: str, ask: Ask) -> tuple[int, list[Event]]:
        """Sends a request; returns its status, and the events that name it."""
        identity = f"asked-{next(self._numbers)}"
        status = client.ask(method, ask.path, ask.body, x_openstack_request_id=identity, **ask.headers).status
        with _records(self._directory) as connection:
            rows = connection.execute(select(events).where(events.c.request_id == f"req-{identity}").order_by(events.c.id))
            return status, [Event(**row._asdict()) for row in rows]

    def done(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Has the administrator do something; returns the answer."""
        answer = self.admin.ask(method, path, body, **headers)
        assert answer.status < 300, answer
        return answer

    def queued(self) -> str:
        """Returns the path of an image that waits for content."""
        return f"/v2/images/{self.admin.create(**FORMATS)['id']}"

    def active(self, store: str = "one") -> str:
        """Returns the path of an image with content."""
        path = self.queued()
        self.done("PUT", f"{path}/file", b"content", x_image_meta_store=store, **OCTETS)
        return path

    def cached(self) -> str:
        """Returns the id of an image that is cached."""
        image = _id(self.active())
        self.done("PUT", f"/v2/cache/{image}")
        return image

    def shared(self) -> str:
        """Returns the path of a member of an image."""
        path = self.queued()
        self.done("POST", f"{path}/members", {"member": "two"})
        return f"{path}/members/two"

    def upload(self) -> str:
        """Returns the path of an upload of eight bytes, of which four came."""
        answer = self.done("POST", "/cowherd/v1/uploads", **_beginning(self.queued()))
        path = answer.headers["location"].partition(str(self.admin.port))[2]
        self.done("PATCH", path, b"half", upload_offset="0", **CHUNK)
        return path

    def namespace(self) -> str:
        """Returns the path of a namespace with one of each kind, all called n."""
        name = f"n{next(self._numbers)}"
        contents = {"objects": [{"name": "n"}], "properties": {"n": PROPERTY}, "tags": [{"name": "n"}]}
        self.done("POST", N, {"namespace": name, "resource_type_associations": [{"name": "n"}], **contents})
        return f"{N}/{name}"


def _id(path: str) -> str:
    return path.rpartition("/")[2]


def _beginning(image: str) -> dict[str, str]:
    """Returns the headers that begin an upload of eight bytes for an image."""
    return {**TUS, "upload_length": "8", "upload_metadata": f"image_id {base64.b64encode(_id(image).encode()).decode()}"}


@contextlib.contextmanager
def _records(directory: Path):
    url = f"sqlite:///{directory}/data/records.sqlite"
    with contextlib.closing(open_database(url)) as database, database.read() as connection:
        yield connection


@pytest.fixture
def world(tmp_path: Path, site: Site):
    (tmp_path / "data").mkdir()
    file = str(tmp_path / "data/tokens")
    tokens = {name: add_token(file, name, f"of-{name}", (name,)) for name in ("admin", "reader")}
    stores = f"stores=one={tmp_path}/one,two={tmp_path}/two"
    with running(tmp_path, "auth=tokens", stores, f"import_allowed={site.url.split('/')[2]}", "http_store=web") as client:
        yield World(client.port, tmp_path, tokens, site.url)


def _staged(world: World) -> Ask:
    path = world.queued()
    world.done("PUT", f"{path}/stage", b"content", **OCTETS)
    return Ask(f"{path}/import", {"method": {"name": "glance-direct"}})


def _deactivated(world: World) -> Ask:
    path = world.active()
    world.done("POST", f"{path}/actions/deactivate")
    return Ask(f"{path}/actions/reactivate")


def _tagged(world: World) -> Ask:
    path = f"{world.queued()}/tags/t"
    world.done("PUT", path)
    return Ask(path)


def _changed(world: World) -> Ask:
    change = [{"op": "replace", "path": "/name", "value": "b"}]
    return Ask(world.queued(), change, {"content_type": "application/openstack-images-v2.1-json-patch"})


def _in_two_stores(world: World) -> Ask:
    world.active("two")
    return Ask(f"/v2/stores/one/{_id(world.active('one'))}")


def _all_cached(world: World) -> Ask:
    world.done("DELETE", "/v2/cache")
    world.cached()
    return Ask("/v2/cache")


def _new_task(world: World) -> Ask:
    given = {"import_from": world.url, "import_from_format": "raw", "image_properties": {}}
    return Ask("/v2/tasks", {"type": "import", "input": given})


def _inside(rest: str, body: Any = None) -> Callable[[World], Ask]:
    """Returns what asks for something in a new namespace."""
    return lambda world: Ask(world.namespace() + rest, body)


_UPLOADS, _UPLOAD = "/cowherd/v1/uploads", "/cowherd/v1/uploads/{image_id}/{upload_id}"
_IMAGE, _NAMESPACE = "/v2/images/{image_id}", N + "/{namespace}"
CHANGES: dict[tuple[str, str], tuple[Callable[[World], Ask], tuple[str, ...]]] = {
    ("POST", "/v2/images"): (lambda _: Ask("/v2/images", {}), ("image.create",)),
    ("PATCH", _IMAGE): (_changed, ("image.update",)),
    ("DELETE", _IMAGE): (lambda world: Ask(world.active()), ("image.delete",)),
    ("PUT", f"{_IMAGE}/file"): (lambda world: Ask(f"{world.queued()}/file", b"content", OCTETS), ("image.active",)),
    ("PUT", f"{_IMAGE}/stage"): (lambda world: Ask(f"{world.queued()}/stage", b"content", OCTETS), ("image.stage",)),
    ("POST", f"{_IMAGE}/import"): (_staged, ("image.import",)),
    ("PUT", f"{_IMAGE}/tags/{{tag}}"): (lambda world: Ask(f"{world.queued()}/tags/t"), ("image.tag",)),
    ("DELETE", f"{_IMAGE}/tags/{{tag}}"): (_tagged, ("image.untag",)),
    ("POST", f"{_IMAGE}/actions/deactivate"): (
        lambda world: Ask(f"{world.active()}/actions/deactivate"),
        ("image.deactivate",),
    ),
    ("POST", f"{_IMAGE}/actions/reactivate"): (_deactivated, ("image.reactivate",)),
    ("POST", f"{_IMAGE}/locations"): (lambda world: Ask(f"{world.queued()}/locations", {"url": world.url}), ("location.add",)),
    ("POST", f"{_IMAGE}/members"): (lambda world: Ask(f"{world.queued()}/members", {"member": "two"}), ("member.add",)),
    ("PUT", f"{_IMAGE}/members/{{member}}"): (lambda world: Ask(world.shared(), {"status": "accepted"}), ("member.answer",)),
    ("DELETE", f"{_IMAGE}/members/{{member}}"): (lambda world: Ask(world.shared()), ("member.remove",)),
    ("POST", "/cowherd/v1/images/{image_id}/standalone"): (
        lambda world: Ask(f"/cowherd/v1/images/{_id(world.active())}/standalone"),
        ("image.standalone",),
    ),
    ("POST", _UPLOADS): (lambda world: Ask(_UPLOADS, None, _beginning(world.queued())), ("image.upload-begin",)),
    ("PATCH", _UPLOAD): (lambda world: Ask(world.upload(), b"rest", {"upload_offset": "4", **CHUNK}), ("image.active",)),
    ("DELETE", _UPLOAD): (lambda world: Ask(world.upload(), None, TUS), ("image.upload-end",)),
    ("POST", _UPLOAD): (
        lambda world: Ask(world.upload(), None, {**TUS, "x_http_method_override": "DELETE"}),
        ("image.upload-end",),
    ),
    ("POST", "/v2/tasks"): (_new_task, ("image.create", "image.import")),
    ("DELETE", "/v2/stores/{store}/{image_id}"): (_in_two_stores, ("store.delete",)),
    ("PUT", "/v2/cache/{image_id}"): (lambda world: Ask(f"/v2/cache/{_id(world.active())}"), ("cache.add",)),
    ("DELETE", "/v2/cache/{image_id}"): (lambda world: Ask(f"/v2/cache/{world.cached()}"), ("cache.remove",)),
    ("DELETE", "/v2/cache"): (_all_cached, ("cache.remove",)),
    ("POST", N): (lambda _: Ask(N, {"namespace": "new"}), ("metadef.namespace.create",)),
    ("PUT", _NAMESPACE): (_inside("", {"namespace": "renamed"}), ("metadef.namespace.update",)),
    ("DELETE", _NAMESPACE): (_inside(""), ("metadef.namespace.delete",)),
    ("POST", f"{_NAMESPACE}/objects"): (_inside("/objects", {"name": "m"}), ("metadef.object.create",)),
    ("PUT", f"{_NAMESPACE}/objects/{{name}}"): (_inside("/objects/n", {"name": "m"}), ("metadef.object.update",)),
    ("DELETE", f"{_NAMESPACE}/objects/{{name}}"): (_inside("/objects/n"), ("metadef.object.delete",)),
    ("DELETE", f"{_NAMESPACE}/objects"): (_inside("/objects"), ("metadef.object.delete",)),
    ("POST", f"{_NAMESPACE}/properties"): (_inside("/properties", {"name": "m", **PROPERTY}), ("metadef.property.create",)),
    ("PUT", f"{_NAMESPACE}/properties/{{name}}"): (
        _inside("/properties/n", {"name": "m", **PROPERTY}),
        ("metadef.property.update",),
    ),
    ("DELETE", f"{_NAMESPACE}/properties/{{name}}"): (_inside("/properties/n"), ("metadef.property.delete",)),
    ("DELETE", f"{_NAMESPACE}/properties"): (_inside("/properties"), ("metadef.property.delete",)),
    ("POST", f"{_NAMESPACE}/tags"): (_inside("/tags", {"tags": [{"name": "m"}]}), ("metadef.tag.replace",)),
    ("POST", f"{_NAMESPACE}/tags/{{name}}"): (_inside("/tags/m"), ("metadef.tag.create",)),
    ("PUT", f"{_NAMESPACE}/tags/{{name}}"): (_inside("/tags/n", {"name": "m"}), ("metadef.tag.update",)),
    ("DELETE", f"{_NAMESPACE}/tags/{{name}}"): (_inside("/tags/n"), ("metadef.tag.delete",)),
    ("DELETE", f"{_NAMESPACE}/tags"): (_inside("/tags"), ("metadef.tag.delete",)),
    ("POST", f"{_NAMESPACE}/resource_types"): (_inside("/resource_types", {"name": "m"}), ("metadef.association.create",)),
    ("DELETE", f"{_NAMESPACE}/resource_types/{{name}}"): (_inside("/resource_types/n"), ("metadef.association.delete",)),
}
"""How each route is asked so that it changes something, with the actions of the events that this leaves."""
CHANGES_NOTHING = {
    ("DELETE", "/v2/tasks/{task}"): "it is always refused",
    ("POST", "/v2/cache/clean"): "nothing is ever cached by half",
    ("POST", "/v2/cache/prune"): "the cache takes no room",
}
"""Routes with a method that changes things elsewhere, and why they change none."""
_TOLD = {(method, path): told for path, method, _, told in operations(ROUTES) if method in ("POST", "PUT", "PATCH", "DELETE")}


def test_it_is_known_of_each_route_what_it_changes():
    assert CHANGES.keys() | CHANGES_NOTHING.keys() == _TOLD.keys()
    assert not CHANGES.keys() & CHANGES_NOTHING.keys()


def test_every_route_that_changes_something_notes_that_and_who_asked_and_nothing_of_what_it_refuses(world):
    for (method, path), (prepare, actions) in CHANGES.items():
        ask = prepare(world)
        status, noted = world.asked(world.reader, method, ask)
        assert (status in (403, 404), noted) == (True, []), (method, path, status)
        status, noted = world.asked(world.admin, method, ask)
        assert status == _TOLD[method, path].status, (method, path, status)
        assert tuple(one.action for one in noted) == actions, (method, path)
        assert {(one.user_id, one.project) for one in noted} == {("admin", "of-admin")}, (method, path)


def test_the_page_of_the_service_names_every_action():
    page = (Path(__file__).parents[3] / "docs/service.md").read_text()
    assert [one for _, actions in CHANGES.values() for one in actions if f"`{one}`" not in page] == []


def noted(directory: Path, action: str) -> list[dict[str, Any]]:
    """Returns the facts of the events of an action, the earliest first."""
    with _records(directory) as connection:
        return [one.detail for one in reversed(list_events(connection, actions=[action]))]


def test_what_a_change_of_definitions_was_is_noted(client, tmp_path):
    assert client.ask("POST", N, {"namespace": "n"}).status == 201
    assert client.ask("PUT", f"{N}/n", {"namespace": "m"}).status == 200
    for append, names in (("false", "ab"), ("true", "c")):
        document = {"tags": [{"name": name} for name in names]}
        assert client.ask("POST", f"{N}/m/tags", document, x_openstack_append=append).status == 201
    assert client.ask("PUT", f"{N}/m/tags/a", {"name": "d"}).status == 200
    assert [client.ask("DELETE", f"{N}/m/tags").status for _ in range(2)] == [204, 204]
    assert noted(tmp_path, "metadef.namespace.create") == [{"namespace": "n", "name": "n", "visibility": "private"}]
    assert noted(tmp_path, "metadef.namespace.update") == [{"namespace": "m", "name": "m", "before": "n"}]
    assert noted(tmp_path, "metadef.tag.replace") == [{"namespace": "m", "names": ["a", "b"]}]
    assert noted(tmp_path, "metadef.tag.create") == [{"namespace": "m", "names": ["c"]}]
    assert noted(tmp_path, "metadef.tag.update") == [{"namespace": "m", "name": "d", "before": "a"}]
    assert noted(tmp_path, "metadef.tag.delete") == [{"namespace": "m", "names": ["b", "c", "d"]}]


def test_a_task_that_fails_at_once_is_noted(client, tmp_path):
    task = client.ask("POST", "/v2/tasks", {"type": "api_image_import", "input": {}}).json
    (detail,) = noted(tmp_path, "task.create")
    assert (detail["task"], detail["type"]) == (task["id"], "api_image_import")
    assert "are made by POST" in detail["reason"]


def test_what_is_as_it_was_is_not_noted(client, tmp_path):
    image = client.create(**FORMATS)["id"]
    assert client.ask("PUT", f"/v2/images/{image}/file", b"content", **OCTETS).status == 204
    assert [client.ask(method, f"/v2/cache/{image}").status for method in ("PUT", "PUT", "DELETE", "DELETE")] == [
        202,
        202,
        204,
        204,
    ]
    assert client.ask("DELETE", "/v2/cache").status == 204
    assert (noted(tmp_path, "cache.add"), noted(tmp_path, "cache.remove")) == ([{}], [{}])


def test_every_change_is_noted_with_who_did_it(clients, tmp_path):
    owner = clients["owner"]
    image = owner.create(name="a", disk_format="raw", container_format="bare")
    path = f"/v2/images/{image['id']}"
    assert owner.ask("PUT", f"{path}/file", b"content", **OCTETS).status == 204
    owner.patch(image["id"], ("replace", "/name", "b"), ("add", "/word", "w"))
    owner.ask("PUT", f"{path}/tags/t")
    owner.ask("DELETE", f"{path}/tags/t")
    owner.ask("POST", f"{path}/members", {"member": "two"})
    clients["other"].ask("PUT", f"{path}/members/two", {"status": "accepted"})
    owner.ask("DELETE", f"{path}/members/two")
    owner.ask("POST", f"{path}/actions/deactivate")
    owner.ask("POST", f"{path}/actions/reactivate")
    assert owner.ask("DELETE", path, x_openstack_request_id="last").status == 204
    with _records(tmp_path) as connection:
        events = list_events(connection, image_id=image["id"])
    assert [(one.action, one.user_id) for one in reversed(events)] == [
        ("image.create", "owner"),
        ("image.active", "owner"),
        ("image.update", "owner"),
        ("image.tag", "owner"),
        ("image.untag", "owner"),
        ("member.add", "owner"),
        ("member.answer", "other"),
        ("member.remove", "owner"),
        ("image.deactivate", "owner"),
        ("image.reactivate", "owner"),
        ("image.delete", "owner"),
    ]
    assert events[0].request_id == "req-last"
    assert events[-3].detail == {"changed": ["name", "word"]}


def test_what_is_refused_changes_nothing_and_is_not_noted(clients, tmp_path):
    image = clients["owner"].create(protected=True)
    assert clients["owner"].ask("DELETE", f"/v2/images/{image['id']}").status == 403
    with _records(tmp_path) as connection:
        assert [one.action for one in list_events(connection, image_id=image["id"])] == ["image.create"]
