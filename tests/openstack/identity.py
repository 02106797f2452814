"""A keystone of its own: users, projects and roles as the suites expect them, and the image service's place in its catalog."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.openstack.peers import Peers
from tests.openstack.processes import free_port, run
from tests.openstack.uwsgi import let_readers_pass, uwsgi

PASSWORD = "secret-of-a-test"
REGION = "RegionOne"

_SETTINGS = """\
[DEFAULT]
log_file = {folder}/keystone-service.log
[database]
connection = sqlite:///{folder}/keystone.db?timeout=60
[fernet_tokens]
key_repository = {folder}/fernet-keys
[credential]
key_repository = {folder}/credential-keys
[token]
provider = fernet
[cache]
enabled = false
[identity]
password_hash_rounds = 4
[oslo_policy]
enforce_scope = true
enforce_new_defaults = true
"""


@dataclass(frozen=True)
class Identity:
    """A running keystone: its URL (with /v3), and the token of its administrator."""

    url: str
    token: str

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns the JSON that keystone answers, {} for none. Raises HTTPError."""
        return _ask(method, self.url + path, body, {"X-Auth-Token": self.token})[0]

    def find(self, kind: str, name: str) -> str:
        """Returns the id of the one `kind` (as in "projects") of that name."""
        (found,) = self.ask("GET", f"/{kind}?name={name}")[kind]
        return found["id"]

    def make(self, kind: str, **body: Any) -> str:
        """Makes one of `kind` (as in "project"), and returns its id."""
        return self.ask("POST", f"/{kind}s", {kind: body})[kind]["id"]

    def grant(self, user: str, project: str, role: str) -> None:
        """Gives a user (by id) a role (by name) in a project (by id)."""
        self.ask("PUT", f"/projects/{project}/users/{user}/roles/{self.find('roles', role)}")

    def token_of(self, user: str, project: str) -> str:
        """Returns a token of a user for a project, both by name in the default domain."""
        return _token(self.url, user, {"project": {"name": project, "domain": {"id": "default"}}})


@contextlib.contextmanager
def keystone(peers: Peers, folder: Path, image_url: str) -> Iterator[Identity]:
    """Starts a keystone whose catalog says that the image service is at `image_url`."""
    port = free_port()
    config = folder / "keystone.conf"
    config.write_text(_SETTINGS.format(folder=folder))
    url = f"http://127.0.0.1:{port}/v3"
    manage = [peers.program("keystone-manage"), "--config-file", config]
    owner = ["--keystone-user", pwd.getpwuid(os.getuid()).pw_name, "--keystone-group", grp.getgrgid(os.getgid()).gr_name]
    log, env = folder / "keystone-manage.log", peers.environment(folder)
    (folder / "fernet-keys").mkdir(mode=0o700)
    (folder / "credential-keys").mkdir(mode=0o700)
    for step in (
        ["db_sync"],
        ["fernet_setup", *owner],
        ["credential_setup", *owner],
        ["bootstrap", "--bootstrap-password", PASSWORD, "--bootstrap-region-id", REGION]
        + [word for name in ("public", "internal", "admin") for word in (f"--bootstrap-{name}-url", url)],
    ):
        run([*manage, *step], env, log)
    let_readers_pass(folder / "keystone.db")
    started = uwsgi(
        peers,
        folder,
        "keystone",
        "keystone.wsgi.api:application",
        port,
        processes=2,
        threads=1,
        OS_KEYSTONE_CONFIG_FILES=config,
    )
    with started:
        identity = Identity(url, _token(url, "admin", {"project": {"name": "admin", "domain": {"id": "default"}}}))
        _populate(identity, image_url)
        yield identity


def _populate(identity: Identity, image_url: str) -> None:
    """What devstack sets up for the same suites, with the users that their clouds.yaml names."""
    service = identity.make("service", type="image", name="glance")
    for interface in ("public", "internal", "admin"):
        identity.make("endpoint", service_id=service, interface=interface, url=image_url, region_id=REGION)
    for user, project, roles in (
        ("glance", "service", ("service",)),
        ("demo", "demo", ("member",)),
        ("alt_demo", "alt_demo", ("member",)),
        ("reader", "demo", ("reader",)),
        ("compute", "service", ("service",)),
    ):
        where = _project(identity, project)
        who = identity.make("user", name=user, password=PASSWORD, domain_id="default", default_project_id=where)
        for role in roles:
            identity.grant(who, where, role)
    identity.grant(identity.find("users", "admin"), identity.find("projects", "demo"), "admin")


def _project(identity: Identity, name: str) -> str:
    found = identity.ask("GET", f"/projects?name={name}")["projects"]
    return found[0]["id"] if found else identity.make("project", name=name, domain_id="default")


def _token(url: str, user: str, scope: dict[str, Any]) -> str:
    who = {"name": user, "domain": {"id": "default"}, "password": PASSWORD}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": scope}}
    return _ask("POST", f"{url}/auth/tokens?nocatalog", body, {})[1]["X-Subject-Token"]


def _ask(method: str, url: str, body: dict[str, Any] | None, headers: dict[str, str]) -> tuple[dict[str, Any], Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"{}"), answer.headers
