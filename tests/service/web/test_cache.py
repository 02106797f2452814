"""The cache of images: what is here is cached as soon as somebody asks for it."""

from __future__ import annotations

OCTETS = {"content_type": "application/octet-stream"}


def uploaded(client, content):
    image = client.create(disk_format="raw", container_format="bare")
    assert client.ask("PUT", f"/v2/images/{image['id']}/file", content, **OCTETS).status == 204
    return image["id"]


def cached(client):
    return [one["image_id"] for one in client.get("/v2/cache").json["cached_images"]]


def test_an_image_is_cached_when_it_is_asked_for(client):
    first, second = uploaded(client, b"content"), uploaded(client, b"other")
    assert cached(client) == []
    for image in (first, second, first):
        assert client.ask("PUT", f"/v2/cache/{image}").status == 202
    assert cached(client) == [first, second]
    shown = client.get("/v2/cached_images").json["cached_images"][0]
    assert (shown["size"], shown["checksum"], shown["hits"]) == (7, "9a0364b9e99bb480dd25e1f0284c8555", 0)
    assert client.get("/v2/queued_images").json == {"queued_images": []}


def test_an_image_is_taken_from_the_cache_by_itself_with_all_others_and_when_it_is_deleted(client):
    images = [uploaded(client, b"%d" % number) for number in range(3)]
    for image in images:
        client.ask("PUT", f"/v2/cache/{image}")
    assert client.ask("DELETE", f"/v2/cache/{images[0]}").status == 204
    assert cached(client) == images[1:]
    assert client.ask("DELETE", f"/v2/images/{images[1]}").status == 204
    assert cached(client) == images[2:]
    assert client.ask("DELETE", "/v2/cache", x_image_cache_clear_target="queue").status == 204
    assert cached(client) == images[2:]
    assert client.ask("DELETE", "/v2/cache", x_image_cache_clear_target="nothing").status == 400
    assert client.ask("DELETE", "/v2/cache").status == 204
    assert cached(client) == []


def test_an_image_without_content_can_not_be_cached(client):
    image = client.create(disk_format="raw", container_format="bare")
    assert client.ask("PUT", f"/v2/cache/{image['id']}").status == 400
    assert client.ask("PUT", "/v2/cache/none").status == 404
    assert cached(client) == []
