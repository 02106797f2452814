"""Signed images: whichever way their bytes arrive, they are active if the signature is theirs, and otherwise nothing is kept."""

from __future__ import annotations

import sys

import pytest

from cowherd.service.intake.signatures import PROPERTIES
from tests.service.signing import new_key, signed, write_certificate
from tests.service.web import test_uploads as tus
from tests.service.web.images import test_locations as locations
from tests.service.web.images.test_locations import site as site  # noqa: PLC0414  # a fixture
from tests.service.web.images.test_staging import DIRECT, OCTETS, imported
from tests.service.web.running import running
from tests.waiting import wait_until

pytest.importorskip("cryptography")

DATA, OTHER = b"the bytes of an image", b"some other bytes here"
RAW = {"disk_format": "raw", "container_format": "bare"}


@pytest.fixture(scope="module")
def key():
    return new_key("RSA-PSS")


@pytest.fixture
def certificates(tmp_path):
    return tmp_path / "certificates"


@pytest.fixture
def client(tmp_path, certificates, site):
    words = (f"import_allowed={site.url.split('/')[2]}", "http_store=web")
    with running(tmp_path, f"signatures_certificates={certificates}", *words) as client:
        yield client


@pytest.fixture
def properties(key, certificates):
    """The properties of a signed image."""
    return signed(key, write_certificate(certificates, key), DATA)


def requires_nothing_kept(client, tmp_path, image_id, said):
    """Requires that an image is queued, and says why, and that the store is empty."""
    image = client.get(f"/v2/images/{image_id}").json
    assert (image["status"], image["size"], image["checksum"], image["os_hash_value"]) == ("queued", None, None, None)
    assert said in image["cowherd_reason"]
    assert client.get(f"/v2/images/{image_id}/file").status == 204
    assert list((tmp_path / "data/store/incoming").iterdir()) == []
    assert list((tmp_path / "data/store/blobs").iterdir()) == []


def put(client, image_id, data=DATA):
    return client.ask("PUT", f"/v2/images/{image_id}/file", data, **OCTETS)


def test_bytes_that_were_signed_are_taken_and_only_the_usual_hashes_recorded(client, properties):
    image = client.create(**RAW, **properties)["id"]
    assert put(client, image).status == 204
    found = client.get(f"/v2/images/{image}").json
    assert (found["status"], found["os_hash_algo"], "cowherd_reason" in found) == ("active", "sha512", False)


def test_bytes_that_were_not_signed_are_refused_and_the_right_ones_taken_after_them(client, properties, tmp_path):
    image = client.create(**RAW, **properties)["id"]
    answer = put(client, image, OTHER)
    assert answer.status == 400
    assert b"these bytes were not signed" in answer.body
    requires_nothing_kept(client, tmp_path, image, "these bytes were not signed")
    assert put(client, image).status == 204


@pytest.mark.parametrize(
    ("certificate", "said"),
    [("../records.sqlite", "is no UUID"), ("00000000-0000-0000-0000-000000000000", "there is no certificate")],
)
def test_a_signature_that_can_not_be_verified_is_refused_whatever_the_bytes(client, properties, tmp_path, certificate, said):
    image = client.create(**RAW, **(properties | {"img_signature_certificate_uuid": certificate}))["id"]
    answer = put(client, image)
    assert answer.status == 400
    assert said in answer.body.decode()
    requires_nothing_kept(client, tmp_path, image, said)


def test_a_certificate_that_has_expired_is_refused(client, key, certificates, tmp_path):
    expired = write_certificate(certificates, key, begin=-3, end=-1)
    image = client.create(**RAW, **signed(key, expired, DATA))["id"]
    assert put(client, image).status == 400
    requires_nothing_kept(client, tmp_path, image, "and not now")


@pytest.mark.parametrize("missing", sorted(PROPERTIES))
def test_three_of_the_four_properties_state_nothing(client, properties, missing):
    del properties[missing]
    assert put(client, client.create(**RAW, **properties)["id"], OTHER).status == 204


def test_without_certificates_signed_images_are_refused_and_others_taken(tmp_path, properties):
    with running(tmp_path) as client:
        image = client.create(**RAW, **properties)["id"]
        assert put(client, image).status == 400
        requires_nothing_kept(client, tmp_path, image, "signatures_certificates")
        assert put(client, client.create(**RAW)["id"]).status == 204


def test_without_the_library_the_answer_says_what_to_install(client, properties, tmp_path, monkeypatch):
    image = client.create(**RAW, **properties)["id"]
    monkeypatch.setitem(sys.modules, "cryptography", None)
    answer = put(client, image)
    assert answer.status == 503
    assert b"pip install" in answer.body
    requires_nothing_kept(client, tmp_path, image, "cryptography")


@pytest.mark.parametrize("data", [DATA, OTHER])
def test_what_is_staged_is_verified_at_its_import(client, properties, tmp_path, data):
    path = f"/v2/images/{client.create(**RAW, **properties)['id']}"
    assert client.ask("PUT", f"{path}/stage", data, **OCTETS).status == 204
    task = imported(client, path, DIRECT)
    if data is DATA:
        assert (task["status"], client.get(path).json["status"]) == ("success", "active")
        return
    assert task["status"] == "failure"
    assert "these bytes were not signed" in task["message"]
    requires_nothing_kept(client, tmp_path, path.rpartition("/")[2], "these bytes were not signed")
    assert client.get(path).json["os_glance_failed_import"] == "default"


@pytest.mark.parametrize("content", [DATA, OTHER])
def test_what_is_fetched_is_verified(client, properties, tmp_path, site, content):
    site.content = content
    image = client.create(**RAW, **properties)["id"]
    task = imported(client, f"/v2/images/{image}", {"method": {"name": "web-download", "uri": site.url}})
    assert task["status"] == ("success" if content is DATA else "failure")
    if content is OTHER:
        requires_nothing_kept(client, tmp_path, image, "these bytes were not signed")


@pytest.mark.parametrize("content", [DATA, OTHER])
def test_what_lies_at_a_location_that_is_read_is_verified(client, properties, tmp_path, site, content):
    site.content = content
    image, task = locations.imported(client, client.create(**RAW, **properties)["id"], {"url": site.url})
    assert (task["status"], image["status"]) == (("success", "active") if content is DATA else ("failure", "queued"))
    assert ("these bytes were not signed" in image.get("cowherd_reason", "")) == (content is OTHER)


@pytest.mark.parametrize("data", [DATA, OTHER])
def test_an_upload_that_goes_on_is_verified_at_its_end(client, properties, tmp_path, data):
    image = client.create(**RAW, **properties)["id"]
    path = tus.begun(client, image, len(data))
    assert tus.appended(client, path, 0, data[:5]).status == 204
    answer = tus.appended(client, path, 5, data[5:])
    assert answer.status == (204 if data is DATA else 400)
    if data is OTHER:
        requires_nothing_kept(client, tmp_path, image, "these bytes were not signed")
        assert client.ask("HEAD", path, **tus.TUS).status in (404, 410)


def test_an_upload_that_goes_on_is_not_begun_for_what_is_refused_at_its_end(client, properties):
    image = client.create(**RAW, **(properties | {"img_signature_hash_method": "MD5"}))["id"]
    assert tus.created(client, image).status == 400
    assert client.get(f"/v2/images/{image}").json["status"] == "queued"


def test_what_is_said_of_a_signature_later_is_only_noted(client, properties):
    image = client.create(**RAW)["id"]
    assert put(client, image, OTHER).status == 204
    changes = [("add", f"/{name}", value) for name, value in properties.items()]
    assert client.patch(image, *changes).status == 200
    assert client.get(f"/v2/images/{image}/file").body == OTHER


def test_an_image_of_other_bytes_takes_no_signature_over(client, properties):
    image = client.create(**RAW, **properties, os_distro="debian")["id"]
    assert put(client, image).status == 204
    path = client.ask("POST", f"/cowherd/v1/images/{image}/standalone").headers["location"]
    wait_until(lambda: client.get(path).json["status"] == "active")
    found = client.get(path).json
    assert (found["os_distro"], PROPERTIES & found.keys()) == ("debian", set())
