"""One run: keystone, a web server with images, and the service under test, begun anew for each suite."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.openstack.clouds import write_clouds, write_tempest
from tests.openstack.glance import glance
from tests.openstack.identity import Identity, keystone
from tests.openstack.images_web import QCOW2, images_web
from tests.openstack.peers import Peers
from tests.openstack.processes import free_port
from tests.openstack.recorder.asked import asked_with_keystone
from tests.openstack.recorder.play import Answer, play
from tests.openstack.recorder.scenes import SCENES
from tests.openstack.running import Result, run_suite
from tests.openstack.served import served
from tests.openstack.suites import Suite

_SECONDS_A_TEST = "300"  # the SDK's tests give up after 5, which a busy machine needs for a token

# What devstack has, and what suites look for: an image of this name, and a resource type in some namespace.
_CIRROS = {"name": "cirros-0.6.3-x86_64-disk", "visibility": "public", "disk_format": "qcow2", "container_format": "bare"}
_NAMESPACE = {
    "namespace": "OS::Cowherd::Tests",
    "visibility": "public",
    "resource_type_associations": [{"name": "OS::Glance::Image"}],
}


@dataclass(frozen=True)
class Trial:
    """What a run has started. `port`: where the catalog says that the image service is. `against`: glance or cowherd."""

    peers: Peers
    folder: Path
    identity: Identity
    port: int
    web_port: int
    against: str

    def run(self, suite: Suite, workers: int) -> Result:
        """Runs a suite on a service that has only the image that devstack has."""
        folder = self.folder / f"{suite.name}-{workers}"
        with self.service(folder, enforced=suite.enforced) as url:
            _prepare(url, self.identity.token, (self.folder / "web" / QCOW2).read_bytes())
            env = self.peers.environment(
                folder,
                TEMPEST_CONFIG_DIR=folder,
                TEMPEST_CONFIG=write_tempest(folder, self.identity, self.web_port, enforced=suite.enforced).name,
                OS_CLIENT_CONFIG_FILE=write_clouds(folder, self.identity),
                OS_GLANCECLIENT_EXEC_DIR=self.peers.bin,
                OS_TEST_TIMEOUT=_SECONDS_A_TEST,
            )
            return run_suite(suite, workers, self.peers, folder, env)

    def record(self) -> dict[str, Answer]:
        """Returns what the service answers to the recorder's requests."""
        with self.service(self.folder / "recorded", enforced=True) as url:
            return play(SCENES, asked_with_keystone(url, self.identity, self.web_port))

    def service(self, folder: Path, *, enforced: bool) -> contextlib.AbstractContextManager[str]:
        """Starts the service under test with a new database; gives its URL."""
        if self.against == "glance":
            return glance(self.peers, folder, self.port, self.identity, self.web_port, enforced=enforced)
        return served(folder, self.port, self.identity, self.web_port, enforced=enforced)


@contextlib.contextmanager
def trial(peers: Peers, folder: Path, against: str) -> Iterator[Trial]:
    """Starts what all suites share."""
    port = free_port()
    with images_web(folder / "web") as web_port, keystone(peers, folder, f"http://127.0.0.1:{port}") as identity:
        yield Trial(peers, folder, identity, port, web_port, against)


def _prepare(url: str, token: str, content: bytes) -> None:
    made = json.loads(_ask("POST", f"{url}/v2/images", token, json.dumps(_CIRROS).encode(), "application/json"))
    _ask("PUT", f"{url}/v2/images/{made['id']}/file", token, content, "application/octet-stream")
    _ask("POST", f"{url}/v2/metadefs/namespaces", token, json.dumps(_NAMESPACE).encode(), "application/json")


def _ask(method: str, url: str, token: str, body: bytes, kind: str) -> bytes:
    request = urllib.request.Request(url, body, {"X-Auth-Token": token, "Content-Type": kind}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()
