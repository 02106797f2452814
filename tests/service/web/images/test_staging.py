"""Content that is staged and imported, and copied to more stores."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from cowherd.service.keeping.recovery import GONE
from cowherd.service.records.faults import DatabaseUnavailable
from cowherd.service.records.image import now
from cowherd.service.records.schema import tasks
from cowherd.service.tasks import imports, runner
from tests.service.web.running import change_records, running
from tests.waiting import wait_until

OCTETS = {"content_type": "application/octet-stream"}
DIRECT = {"method": {"name": "glance-direct"}}
COPY = {"method": {"name": "copy-image"}}


@pytest.fixture
def client(tmp_path):
    """A client of a service with two stores."""
    with running(tmp_path, f"stores=one={tmp_path}/one,two={tmp_path}/two") as client:
        yield client


def staged(client, content=b"content", disk_format="raw"):
    """Stages content for a new image; returns its path."""
    path = f"/v2/images/{client.create(disk_format=disk_format, container_format='bare')['id']}"
    assert client.ask("PUT", f"{path}/stage", content, **OCTETS).status == 204
    assert client.get(path).json["status"] == "uploading"
    return path


def imported(client, path, document):
    """Asks for an import and waits for its end; returns its task."""
    assert client.ask("POST", f"{path}/import", document).status == 202
    return ended(client, path)


def ended(client, path):
    wait_until(lambda: client.get(f"{path}/tasks").json["tasks"][0]["status"] in ("success", "failure"))
    return client.get(f"{path}/tasks").json["tasks"][0]


def test_what_was_staged_is_imported(client):
    path = staged(client)
    task = imported(client, path, DIRECT)
    assert (task["status"], task["type"]) == ("success", "api_image_import")
    image = client.get(path).json
    assert (image["status"], image["stores"], image["size"]) == ("active", "one", 7)
    assert (image["os_glance_importing_to_stores"], image["os_glance_failed_import"]) == ("", "")
    assert "os_glance_import_task" not in image
    assert client.get(f"{path}/file").body == b"content"


def test_no_bytes_are_staged_and_imported_like_others(client):
    path = staged(client, b"")
    assert imported(client, path, DIRECT)["status"] == "success"
    assert (client.get(path).json["status"], client.get(path).json["size"]) == ("active", 0)


def test_the_import_of_what_is_gone_fails_and_the_image_waits_for_content_again(client, tmp_path):
    path = staged(client)
    (file,) = (tmp_path / "one/incoming").iterdir()
    file.unlink()
    task = imported(client, path, DIRECT)
    assert (task["status"], "stage its content again" in task["message"]) == ("failure", True)
    image = client.get(path).json
    assert (image["status"], image["size"], image["cowherd_reason"]) == ("queued", None, GONE)
    assert client.ask("PUT", f"{path}/stage", b"content", **OCTETS).status == 204
    assert imported(client, path, DIRECT)["status"] == "success"


@pytest.mark.parametrize("where", [{"stores": ["two"]}, {"stores": ["two", "one"]}, {"all_stores": True}])
def test_an_import_goes_to_the_stores_that_are_asked_for(client, tmp_path, where):
    path = staged(client)
    assert imported(client, path, {**DIRECT, **where})["status"] == "success"
    wanted = where.get("stores", ["one", "two"])
    assert set(client.get(path).json["stores"].split(",")) == set(wanted)
    assert client.get(f"{path}/file?prefer=two").body == b"content"
    kept = [one.parts[-4] for one in tmp_path.glob("*/blobs/*/*") if "." not in one.name]
    assert sorted(kept) == sorted(wanted)


def test_an_import_leaves_to_other_images_what_they_have(client):
    first, second = staged(client), staged(client)
    imported(client, first, DIRECT)
    assert imported(client, second, {**DIRECT, "stores": ["two"]})["status"] == "success"
    assert client.get(first).json["stores"] == client.get(second).json["stores"] == "one,two"


def test_a_refused_import_says_why_and_leaves_nothing(client, tmp_path):
    path = staged(client, disk_format="qcow2")
    task = imported(client, path, DIRECT)
    assert task["status"] == "failure"
    assert "'format'" in task["message"]
    image = client.get(path).json
    assert image["status"] == "queued"
    assert "'format'" in image["cowherd_reason"]
    assert (image["os_glance_importing_to_stores"], image["os_glance_failed_import"]) == ("", "one")
    assert list((tmp_path / "one/incoming").iterdir()) == []
    assert client.ask("PUT", f"{path}/stage", b"again", **OCTETS).status == 204


def test_content_is_copied_to_another_store(client, tmp_path):
    path = staged(client)
    imported(client, path, DIRECT)
    assert client.ask("POST", f"{path}/import", {**COPY, "stores": ["one"]}).status == 400
    assert imported(client, path, {**COPY, "stores": ["two"]})["status"] == "success"
    assert client.get(path).json["stores"] == "one,two"
    assert {one.name for one in (tmp_path / "one/blobs").rglob("*.sums")} == {
        one.name for one in (tmp_path / "two/blobs").rglob("*.sums")
    }
    assert client.ask("POST", f"{path}/import", {**COPY, "all_stores": True}).status == 202


def test_damage_is_not_copied(client, tmp_path):
    path = staged(client)
    imported(client, path, DIRECT)
    blob = next(one for one in (tmp_path / "one/blobs").rglob("*") if one.is_file() and "." not in one.name)
    blob.chmod(0o600)
    blob.write_bytes(b"cONTENT")
    task = imported(client, path, {**COPY, "stores": ["two"]})
    assert task["status"] == "failure"
    assert "damaged in the store one" in task["message"]
    image = client.get(path).json
    assert (image["stores"], image["os_glance_importing_to_stores"], image["os_glance_failed_import"]) == ("one", "", "two")
    assert list((tmp_path / "two/incoming").iterdir()) == []


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({}, 400),
        ([], 400),
        ({"method": "glance-direct"}, 400),
        ({"method": {}}, 400),
        ({"method": {"name": "by-mail"}}, 400),
        ({**DIRECT, "all_stores": "true"}, 400),
        ({**DIRECT, "all_stores_must_succeed": 1}, 400),
        ({**DIRECT, "stores": ["three"]}, 409),
        ({**DIRECT, "stores": "one"}, 409),
        ({**DIRECT, "stores": ["one"], "all_stores": True}, 400),
        (COPY, 409),
    ],
)
def test_an_import_that_makes_no_sense_is_refused(client, document, status):
    path = staged(client)
    assert client.ask("POST", f"{path}/import", document).status == status
    assert client.get(path).json["status"] == "uploading"


def test_states_in_which_nothing_is_staged_or_imported(client):
    path = f"/v2/images/{client.create(disk_format='raw', container_format='bare')['id']}"
    assert client.ask("POST", f"{path}/import", DIRECT).status == 409
    assert client.ask("PUT", f"{path}/stage", b"x", content_type="text/plain").status == 415
    path = staged(client)
    assert client.ask("PUT", f"{path}/stage", b"x", **OCTETS).status == 409
    assert client.ask("PUT", f"{path}/file", b"x", **OCTETS).status == 409
    assert client.get(f"{path}/file").status == 204


def test_what_was_staged_goes_with_its_image(client, tmp_path):
    path = staged(client)
    assert client.ask("DELETE", path).status == 204
    assert list((tmp_path / "one/incoming").iterdir()) == []


def test_what_is_staged_outlives_the_service(tmp_path):
    with running(tmp_path) as client:
        path = staged(client)
    with running(tmp_path) as client:
        assert imported(client, path, DIRECT)["status"] == "success"
        assert client.get(f"{path}/file").body == b"content"


def test_an_import_that_nobody_began_is_taken_up_by_the_next_service(tmp_path, monkeypatch):
    with running(tmp_path) as client:
        path = staged(client)
        monkeypatch.setattr(runner.Runner, "wake", lambda _: None)
        monkeypatch.setattr(runner.Runner, "_take", lambda _: None)
        assert client.ask("POST", f"{path}/import", DIRECT).status == 202
    monkeypatch.undo()
    with running(tmp_path) as client:
        assert ended(client, path)["status"] == "success"


def test_one_operation_at_a_time(client, monkeypatch):
    path = staged(client)
    monkeypatch.setattr(runner.Runner, "_take", lambda _: None)
    assert client.ask("POST", f"{path}/import", DIRECT).status == 202
    assert client.ask("POST", f"{path}/import", DIRECT).status == 409


@pytest.mark.parametrize("method", ["_copy", "_take_out"])
def test_an_import_that_was_cut_off_after_the_image_became_active_goes_on(tmp_path, monkeypatch, method):
    cuts = []

    def cut_off(*_, **__):
        cuts.append(method)
        raise DatabaseUnavailable("gone")

    stores = f"stores=one={tmp_path}/one,two={tmp_path}/two"
    with running(tmp_path, stores) as client, monkeypatch.context() as patch:
        path = staged(client)
        patch.setattr(imports.Imports, method, cut_off)
        patch.setattr(runner, "finish_task", cut_off)  # as if its process had been killed
        assert client.ask("POST", f"{path}/import", {**DIRECT, "stores": ["two"]}).status == 202
        wait_until(lambda: len(cuts) >= 2)  # the work, and the note of its end
        assert client.get(path).json["status"] == "active"
    change_records(tmp_path, update(tasks).values(leased_until=now()))
    with running(tmp_path, stores) as client:
        assert ended(client, path)["status"] == "success"
        image = client.get(path).json
        assert (image["stores"], image["os_glance_failed_import"]) == ("two", "")
        assert client.get(f"{path}/file").body == b"content"
