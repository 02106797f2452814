"""Images whose content stays at an address on the web."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
from http.server import BaseHTTPRequestHandler

import pytest

from tests.service.web.running import running
from tests.service.web.webserver import answering
from tests.waiting import wait_until

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Site:
    """A web server on loopback that gives out `content` at /image."""

    def __init__(self, port):
        self.url, self.content = f"http://127.0.0.1:{port}/image", CONTENT


@pytest.fixture
def site():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if not self.path.startswith("/image"):
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(found.content)))
            self.end_headers()
            with contextlib.suppress(OSError):  # who only asks for the length goes away
                self.wfile.write(found.content)

    with answering(Handler) as server:
        found = Site(server.server_port)
        yield found


@pytest.fixture
def client(tmp_path, site):
    with running(tmp_path, f"import_allowed={site.url.split('/')[2]}", "http_store=web") as client:
        yield client


def queued(client):
    return client.create(disk_format="raw", container_format="bare")["id"]


def located(client, site, *, ending="", **more):
    """Returns the id of an image that got a location by PATCH."""
    image = queued(client)
    assert client.patch(image, ("add", "/locations/-", {"url": site.url + ending, "metadata": {}, **more})).status == 200
    return image


def imported(client, image, document):
    """Adds a location by POST; returns the image's record and the task once it has ended."""
    assert client.ask("POST", f"/v2/images/{image}/locations", document).status == 202
    path = f"/v2/images/{image}/tasks"
    wait_until(lambda: client.get(path).json["tasks"][0]["status"] not in ("pending", "processing"))
    return client.get(f"/v2/images/{image}").json, client.get(path).json["tasks"][0]


def test_a_queued_image_is_active_with_its_first_location(client, site):
    image = client.get(f"/v2/images/{located(client, site)}").json
    assert (image["status"], image["size"], image["stores"], image["os_hash_value"]) == ("active", len(CONTENT), "web", None)
    assert image["locations"] == [{"url": site.url, "metadata": {"store": "web"}}]
    assert image["direct_url"] == site.url


def test_what_lies_at_a_location_is_given_out_whole_and_in_ranges(client, site):
    file = f"/v2/images/{located(client, site)}/file"
    assert client.get(file).body == CONTENT
    assert client.get(file, range="bytes=1000-1999").body == CONTENT[1000:2000]
    assert client.get(file, range="bytes=-7").body == CONTENT[-7:]


def test_content_of_another_length_is_not_given_out(client, site):
    image = located(client, site)
    site.content = CONTENT + b"more"
    assert client.get(f"/v2/images/{image}/file").status == 503


def test_content_with_another_hash_is_never_given_out_whole(client, site):
    image, _ = imported(client, queued(client), {"url": site.url})
    site.content = CONTENT[:-1] + b"?"
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        client.get(f"/v2/images/{image['id']}/file")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://x/y", "http://127.0.0.1:1/x", "http://169.254.169.254/"])
def test_an_address_that_may_not_be_asked_is_no_location(client, url):
    image = queued(client)
    assert client.patch(image, ("add", "/locations/-", {"url": url, "metadata": {}})).status == 400
    assert client.ask("POST", f"/v2/images/{image}/locations", {"url": url}).status in (400, 403)
    assert client.get(f"/v2/images/{image}").json["status"] == "queued"


def test_an_address_where_nothing_lies_is_no_location(client, site):
    url = site.url.replace("image", "nothing")
    assert client.patch(queued(client), ("add", "/locations/-", {"url": url, "metadata": {}})).status == 400


def test_locations_keep_their_places_and_may_be_described_anew_but_not_replaced(client, site):
    image = located(client, site)
    assert client.patch(image, ("add", "/locations/0", {"url": f"{site.url}#new", "metadata": {"a": "b"}})).status == 200
    now = client.get(f"/v2/images/{image}").json["locations"]
    assert [one["url"] for one in now] == [f"{site.url}#new", site.url]
    now[1]["metadata"]["date"] = "today"
    assert client.patch(image, ("replace", "/locations", now)).json["locations"] == now
    other = {**now[1], "url": f"{site.url}#other"}
    for wrong in (now[:1], [now[0], other]):
        assert client.patch(image, ("replace", "/locations", wrong)).status == 400
    assert client.patch(image, ("replace", "/locations", [])).status == 403
    assert client.get(f"/v2/images/{image}").json["locations"] == now


def test_the_last_location_stays(client, site):
    image = located(client, site)
    assert client.patch(image, ("remove", "/locations/0")).status == 403
    assert client.patch(image, ("remove", "/locations/1")).status == 400
    client.patch(image, ("add", "/locations/-", {"url": f"{site.url}#2", "metadata": {}}))
    left = client.patch(image, ("remove", "/locations/0")).json["locations"]
    assert [one["url"] for one in left] == [f"{site.url}#2"]


def test_hashes_that_are_stated_become_those_of_the_image_and_others_contradict_them(client, site):
    stated = {"checksum": "1" * 32, "os_hash_algo": "sha512", "os_hash_value": "deadbeef" * 16}
    image = located(client, site, validation_data=stated)
    record = client.get(f"/v2/images/{image}").json
    assert {name: record[name] for name in stated} == stated
    assert "validation_data" not in record["locations"][0]
    for name, wrong in (("checksum", "2" * 32), ("os_hash_value", "beefdead" * 16), ("os_hash_algo", "sha256")):
        value = {"url": f"{site.url}#new", "metadata": {}, "validation_data": {**stated, name: wrong}}
        assert client.patch(image, ("add", "/locations/-", value)).status == 409
    value = {"url": f"{site.url}#new", "metadata": {}, "validation_data": stated}
    assert client.patch(image, ("add", "/locations/-", value)).status == 200


@pytest.mark.parametrize("stated", [{}, {"validation_data": {}}])
def test_a_location_is_read_and_its_image_active_with_the_hashes(client, site, stated):
    image, task = imported(client, queued(client), {"url": site.url, **stated})
    assert (task["type"], task["status"]) == ("location_import", "success")
    assert (image["status"], image["size"], image["stores"]) == ("active", len(CONTENT), "web")
    assert image["os_hash_value"] == hashlib.sha512(CONTENT).hexdigest()
    assert image["checksum"] == hashlib.md5(CONTENT).hexdigest()
    assert client.get(f"/v2/images/{image['id']}/file").body == CONTENT


def test_the_hash_that_is_announced_is_the_one_that_is_made(client, site):
    stated = {"os_hash_algo": "sha256", "os_hash_value": SHA256}
    image, _ = imported(client, queued(client), {"url": site.url, "validation_data": stated})
    assert {name: image[name] for name in stated} == stated


def test_what_is_not_what_was_announced_can_not_be_read_and_something_else_can_be_uploaded(client, site):
    stated = {"os_hash_algo": "sha256", "os_hash_value": "0" * 64}
    image, task = imported(client, queued(client), {"url": site.url, "validation_data": stated})
    assert task["status"] == "failure"
    assert SHA256 in image["cowherd_reason"]
    assert (image["status"], image["os_hash_algo"], image["stores"]) == ("queued", None, "web")
    file = f"/v2/images/{image['id']}/file"
    assert client.get(file).status == 204
    assert client.ask("PUT", file, b"other", content_type="application/octet-stream").status == 204
    assert client.get(file).body == b"other"
    assert client.get(f"/v2/images/{image['id']}").json["stores"] == "default"


@pytest.mark.parametrize(
    "stated",
    [
        {"os_hash_algo": "sha512"},
        {"os_hash_value": SHA256},
        {"os_hash_algo": "sha123", "os_hash_value": SHA256},
        {"os_hash_algo": "sha512", "os_hash_value": SHA256},
        {"os_hash_algo": "shake_128", "os_hash_value": SHA256},
    ],
)
def test_a_hash_that_can_be_none_is_refused(client, site, stated):
    document = {"url": site.url, "validation_data": stated}
    assert client.ask("POST", f"/v2/images/{queued(client)}/locations", document).status == 400


def test_only_a_queued_image_is_given_a_location_by_post(client, site):
    assert client.ask("POST", f"/v2/images/{located(client, site)}/locations", {"url": site.url}).status == 409


def test_without_a_store_of_addresses_there_are_no_locations(tmp_path, site):
    with running(tmp_path, f"import_allowed={site.url.split('/')[2]}") as client:
        image = queued(client)
        assert client.patch(image, ("add", "/locations/-", {"url": site.url, "metadata": {}})).status == 403
        assert client.ask("POST", f"/v2/images/{image}/locations", {"url": site.url}).status == 403
        assert [one["id"] for one in client.get("/v2/info/stores").json["stores"]] == ["default"]
    with pytest.raises(Exception, match="two stores"), running(tmp_path, "http_store=default"):
        pass
