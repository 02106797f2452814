"""Moves a real Glance in: fills it with images of every kind, adopts them, and compares what both services then answer."""

from __future__ import annotations

import hashlib
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.openstack.glance import glance
from tests.openstack.images_web import QCOW2, RAW
from tests.openstack.processes import run
from tests.openstack.served import cowherd, environment, served
from tests.openstack.trial import Trial
from tests.waiting import wait_until

_USERS = {"admin": ("admin", "admin"), "member": ("demo", "demo"), "alt": ("alt_demo", "alt_demo"), "reader": ("reader", "demo")}
_PATCH = "application/openstack-images-v2.1-json-patch"
_LISTS = (
    "/v2/images?limit=1000",
    "/v2/images?limit=1000&visibility=all&member_status=all",
    "/v2/images?limit=1000&os_hidden=true",
    "/v2/images?limit=1000&tag=adopted&sort=name:asc,id:desc",
    "/v2/metadefs/namespaces?limit=1000&sort_key=namespace",
    "/v2/metadefs/resource_types",
    "/v2/metadefs/namespaces/OS::Compute::Watchdog/properties/watchdog_action",
    "/v2/metadefs/namespaces/Adopted::All/properties/kind",
    "/v2/metadefs/namespaces/Adopted::All/objects/thing",
    "/v2/metadefs/namespaces/Adopted::All/tags/word",
)
_OF_NAMESPACES = ("", "/objects", "/properties", "/tags", "/resource_types")
_NOTHING = "(nothing)"
_OURS = ("locations", "direct_url", "cowherd_reason")
"""What is told of where content lies differs by nature, and so does what only one of them tells."""


class Answer(NamedTuple):
    """What a service answered: the status, the document, or the digest of what is none, and the checksum that its head states."""

    status: int
    body: Any
    checksum: str | None


@dataclass(frozen=True)
class Service:
    """A service, and the tokens of those who ask it by their names."""

    url: str
    tokens: Mapping[str, str]

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json", who: str = "admin") -> Answer:
        """Returns the answer to a request; `body` is bytes, or is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"X-Auth-Token": self.tokens[who], "Content-Type": kind, "Accept": "application/json"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.url + path, data, headers, method=method), timeout=60
            ) as answer:
                return _answer(answer.status, answer.read(), answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error.read(), error.headers)

    def create(self, who: str = "member", data: bytes | None = None, **facts: Any) -> str:
        """Makes an image, with content if there is some; returns its id."""
        made = self.ask("POST", "/v2/images", {"container_format": "bare", "disk_format": "raw", **facts}, who=who)
        assert made.status == 201, made
        if data is not None:
            put = self.ask("PUT", f"/v2/images/{made.body['id']}/file", data, "application/octet-stream", who)
            assert put.status == 204, put
        return made.body["id"]

    def status(self, image_id: str) -> str:
        """Returns the state of an image."""
        return self.ask("GET", f"/v2/images/{image_id}").body["status"]


def _answer(status: int, body: bytes, headers: Mapping[str, str]) -> Answer:
    is_document = (headers.get("Content-Type") or "").startswith("application/json")
    found = json.loads(body) if is_document else hashlib.sha256(body).hexdigest()
    return Answer(status, found, headers.get("Content-MD5"))


def differences(trial: Trial) -> list[str]:
    """Moves a Glance in, and returns what differs between what it answered and what cowherd answers, a line for each."""
    folder, ours = trial.folder / "moved", trial.folder / "moved-here"
    tokens = {name: trial.identity.token_of(user, project) for name, (user, project) in _USERS.items()}
    with glance(trial.peers, folder, trial.port, trial.identity, trial.web_port, enforced=False) as url:
        service = Service(url, tokens)
        changed = _fill(service, trial, folder)
        before = dict(_asked(service))
    untouched = _files(folder)
    said = _adopt(trial, folder, ours)
    found = [
        f"adoption: {one['image']} {one['name']}: {one['problem']}" for one in said["images"] if _is_unexpected(one, changed)
    ]
    found += [] if _files(folder) == untouched else ["a file of Glance's was changed"]
    again = _adopt(trial, folder, ours)
    found += [f"adopted twice: {one}" for one in again["images"] if one["result"] not in ("known", "waiting")]
    with served(ours, trial.port, trial.identity, trial.web_port, enforced=False) as url:
        after = dict(_asked(Service(url, tokens)))
    return found + [line for key in sorted(before) for line in _compared(key, before[key], after.get(key), changed)]


def _adopt(trial: Trial, folder: Path, ours: Path) -> dict[str, Any]:
    stores = [word for name in ("cheap", "fast") for word in ("--store", f"{name}={ours / name}")]
    words = cowherd("serve", "--data", ours, *stores, "--http-store", "web", "--require-format-match", "false", "--json")
    words += ["--adopt-glance", str(folder / "settings" / "glance-api.conf")]
    done = subprocess.run(words, env=environment(trial.folder), capture_output=True, text=True, check=False)
    assert done.returncode in (0, 4), done.stderr
    return json.loads(done.stdout)


def _fill(service: Service, trial: Trial, folder: Path) -> dict[str, str]:
    """Fills a Glance; returns the ids of the images that are not to be as they were, with the states that they are to have."""
    manage = [trial.peers.program("glance-manage"), "--config-file", folder / "settings" / "glance-api.conf"]
    run(
        [*manage, "db_load_metadefs", trial.peers.root / "etc/glance/metadefs"],
        trial.peers.environment(folder),
        folder / "load.log",
    )
    qcow2 = (trial.folder / "web" / QCOW2).read_bytes()
    service.create(
        data=b"plain" * 100_000, name="plain", tags=["adopted", "b"], own="property", visibility="private", min_ram=512
    )
    service.create("admin", qcow2, name="qcow2 ü", disk_format="qcow2", visibility="public", protected=True, hw_disk_bus="virtio")
    service.create(data=b"same" * 5000, name="hidden", os_hidden=True, visibility="community", tags=["adopted"])
    service.create(data=b"same" * 5000, name="twin", min_disk=3)
    service.create(data=b"anything", name="ovf", container_format="ova", disk_format="vmdk")
    service.create(data=b"", name="of a machine on volumes", disk_format="qcow2", bdm_v2="True")
    service.create(name="queued", tags=["adopted"])
    _share(service, trial)
    off = service.create(data=b"off", name="off")
    service.ask("POST", f"/v2/images/{off}/actions/deactivate")
    service.ask("DELETE", f"/v2/images/{service.create(data=b'gone', name='gone')}")
    _import(service, trial.web_port)
    web = service.create("admin", name="on the web", visibility="public")
    place = {"url": f"http://127.0.0.1:{trial.web_port}/{RAW}", "metadata": {"store": "web"}}
    located = service.ask("PATCH", f"/v2/images/{web}", [{"op": "add", "path": "/locations/-", "value": place}], _PATCH)
    assert located.status == 200, located
    _define(service)
    staged = service.create(name="staged")
    service.ask("PUT", f"/v2/images/{staged}/stage", b"staged", "application/octet-stream", "member")
    cut = service.create(data=qcow2[:65536], name="cut off", disk_format="qcow2")
    return {staged: "queued", cut: "queued"}


def _share(service: Service, trial: Trial) -> None:
    alt = trial.identity.find("projects", "alt_demo")
    for name, status in (("lent", "accepted"), ("offered", None)):
        image = service.create(data=name.encode(), name=name)
        service.ask("POST", f"/v2/images/{image}/members", {"member": alt}, who="member")
        if status:
            service.ask("PUT", f"/v2/images/{image}/members/{alt}", {"status": status}, who="alt")


def _import(service: Service, web_port: int) -> None:
    both = service.create("admin", name="in both stores")
    service.ask("PUT", f"/v2/images/{both}/stage", b"both" * 1000, "application/octet-stream")
    body = {"method": {"name": "glance-direct"}, "stores": ["cheap", "fast"]}
    assert service.ask("POST", f"/v2/images/{both}/import", body).status == 202
    fetched = service.create(name="fetched", disk_format="qcow2")
    body = {"method": {"name": "web-download", "uri": f"http://127.0.0.1:{web_port}/{QCOW2}"}}
    assert service.ask("POST", f"/v2/images/{fetched}/import", body, who="member").status == 202
    for image in (both, fetched):
        wait_until(lambda image=image: service.status(image) == "active")


def _define(service: Service) -> None:
    kind = {"title": "A kind", "type": "string", "enum": ["a", "b"], "default": "a", "minLength": 1}
    name = "Adopted::All"
    body = {
        "namespace": name,
        "display_name": "All",
        "description": "of every kind",
        "visibility": "private",
        "resource_type_associations": [{"name": "OS::Cowherd::Herd", "prefix": "h_", "properties_target": "image"}],
    }
    assert service.ask("POST", "/v2/metadefs/namespaces", body).status == 201
    inside = f"/v2/metadefs/namespaces/{name}"
    service.ask("POST", f"{inside}/properties", {"name": "kind", **kind})
    service.ask(
        "POST", f"{inside}/properties", {"name": "count", "title": "Count", "type": "integer", "minimum": 1, "maximum": 9}
    )
    service.ask("POST", f"{inside}/objects", {"name": "thing", "required": ["kind"], "properties": {"kind": kind}})
    service.ask("POST", f"{inside}/objects", {"name": "bare thing", "description": "with nothing"})
    service.ask("POST", f"{inside}/tags/word")


def _asked(service: Service) -> Iterator[tuple[str, Answer]]:
    """Asks a service all that tells of its images and definitions; gives each request with its answer."""
    paths = list(_LISTS)
    for image in service.ask("GET", _LISTS[1]).body["images"] + service.ask("GET", _LISTS[2]).body["images"]:
        paths += [f"/v2/images/{image['id']}{more}" for more in ("", "/members", "/file")]
    for namespace in service.ask("GET", _LISTS[4]).body["namespaces"]:
        paths += [f"/v2/metadefs/namespaces/{namespace['namespace']}{more}" for more in _OF_NAMESPACES]
    for who in service.tokens:
        for path in dict.fromkeys(paths):
            if who == "admin" or "metadefs" not in path or "Adopted" in path:
                yield f"{who} GET {path}", service.ask("GET", path, who=who)


def _files(folder: Path) -> dict[str, tuple[int, ...]]:
    """Returns what of Glance's files must not change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.name.endswith((".log", ".sock")):
            info = path.stat()
            found[str(path)] = (info.st_mode, info.st_nlink, info.st_mtime_ns, info.st_size)
    return found


def _is_unexpected(outcome: dict[str, Any], changed: Mapping[str, str]) -> bool:
    return (outcome["problem"] is not None) != (outcome["image"] in changed)


def _compared(key: str, before: Answer, after: Answer | None, changed: Mapping[str, str]) -> Iterator[str]:
    if any(image in key for image in changed):
        return
    if after is None or (before.status, before.checksum) != (after.status, after.checksum):
        yield f"{key}: {before.status} {before.checksum}, and here {after and (after.status, after.checksum)}"
    elif before.status == 200:
        yield from _apart(key, _without_ours(before.body, changed), _without_ours(after.body, changed))


def _without_ours(body: Any, changed: Mapping[str, str]) -> Any:
    if isinstance(body, list):
        return [_without_ours(one, changed) for one in body if not (isinstance(one, dict) and one.get("id") in changed)]
    if isinstance(body, dict):
        kept = {name: _without_ours(value, changed) for name, value in body.items() if name not in _OURS}
        if "file" in kept:  # of an image; Glance's tags have no order
            kept["tags"] = sorted(kept["tags"])
        return kept
    return body


def _apart(where: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            yield from _apart(f"{where} {name}", before.get(name, _NOTHING), after.get(name, _NOTHING))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _apart(f"{where}[{number}]", one, other)
    elif before != after and not (where.endswith(" updated_at") and before == _NOTHING):  # Glance has none of what never changed
        yield f"{where}: {before!r}, and here {after!r}"
