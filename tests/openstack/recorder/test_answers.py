"""The service answers as Glance did, but for what has a reason: a part of the recorder's requests, and all callers."""

from __future__ import annotations

import pytest

from cowherd.service.web.callers import add_token
from tests.openstack.images_web import images_web
from tests.openstack.recorder.asked import PERSONAS, asked_with_tokens
from tests.openstack.recorder.compare import differences
from tests.openstack.recorder.play import play
from tests.openstack.recorder.reasons import report
from tests.openstack.recorder.records import read_records
from tests.openstack.recorder.scenes import SCENES
from tests.service.web.described import faults
from tests.service.web.running import running

_NAMES = (
    *("versions", "tokens", "info", "create", "show and delete", "patch", "patch base", "patch owner", "patch 2.0"),
    *("patch media types", "list pages", "list filters", "list sorts", "upload", "ranges", "actions", "members", "tags"),
    *("cache", "policy shared"),
)


@pytest.fixture
def target(tmp_path):
    """A service as Glance was set up when it was asked."""
    data = tmp_path / "data"
    data.mkdir()
    tokens = {who: add_token(str(data / "tokens"), f"user-{who}", project, (role,)) for who, (project, role) in PERSONAS.items()}
    stores = ",".join(f"{name}={tmp_path / name}" for name in ("cheap", "fast"))
    with images_web(tmp_path / "web") as port:
        words = ("auth=tokens", f"stores={stores}", f"import_allowed=127.0.0.1:{port}", "http_store=web")
        with running(tmp_path, *words) as client:
            yield asked_with_tokens(f"http://127.0.0.1:{client.port}", tokens, port)


def test_answers_differ_from_glances_only_with_reason(target):
    scenes = [scene for scene in SCENES if scene.name in _NAMES]
    assert {scene.name for scene in scenes} == set(_NAMES)
    glance = {title: answer for title, answer in read_records().items() if title.partition(":")[0] in _NAMES}
    ours = play(scenes, target)
    told, good = report(differences(glance, ours))
    assert good, told
    asked = [(title, request) for scene in scenes for title, request in scene.titled() if title in ours]
    headers = {title: dict.fromkeys(answer["headers"], "") for title, answer in ours.items()}
    untold = [faults(one.method, one.path, ours[title]["status"], headers[title], b"") for title, one in asked]
    assert [fault for found in untold for fault in found] == []
