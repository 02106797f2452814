"""The page of one image."""

from __future__ import annotations

import re
import uuid

import pytest

from cowherd.service.records.events import Event, record_event
from cowherd.service.web.page import image as image_page
from tests.service.web.page.furnished import add_family, add_image, damage, records
from tests.service.web.page.test_index import rows_of, words_of


def test_it_tells_what_is_wrong_and_what_to_do(furnished):
    words = words_of(furnished.page(f"images/{furnished.ids['damaged']}"))
    assert words.startswith("windows-2022-0 - image service Image service windows-2022-0 damaged What is wrong, and what to do")
    assert "Upload the same content again, or restore the file from a backup" in words
    assert re.search(r"default damaged \d+ s ago scrub bytes 0 to 1,048,575", words)


def test_a_whole_image_on_a_damaged_base_says_so(client, tmp_path):
    with records(tmp_path) as connection:
        family = add_family(connection, "f", 1)
        damage(connection, family[0])
    words = words_of(client.get(f"/cowherd/images/{family[1].id}").body.decode())
    assert words.startswith("f-0 - image service Image service f-0 whole, its base is not The image id")


def test_it_tells_what_the_image_stands_on_and_what_stands_on_it(furnished):
    names = [row[0] for row in rows_of(furnished.page(f"images/{furnished.ids['overlay']}"))]
    assert names == [
        "debian-12 qcow2 5 overlays in all",
        *("debian-12-0 qcow2", "debian-12-1 qcow2 4 overlays in all", "debian-12-4 qcow2"),
        *("debian-12-7 qcow2", "debian-12-10 qcow2", "debian-12-13 qcow2"),
    ]


def test_it_tells_what_happened_the_latest_first(furnished):
    words = words_of(furnished.page(f"images/{furnished.ids['refused']}"))
    history = words.partition("What happened")[2]
    assert re.match(
        r" when what who details \d+ \w+ ago got no content the service name: refused; reason: The image was refused .*"
        r"\d+ \w+ ago made somebody on this host name: refused; visibility: shared$",
        history,
    )


def test_of_a_long_history_a_page_links_to_the_next(client, tmp_path, monkeypatch):
    monkeypatch.setattr(image_page, "EVENTS", 2)
    with records(tmp_path) as connection:
        image = add_image(connection, "a")
        for number in range(5):
            record_event(connection, Event(action="image.tag", image_id=image.id, detail={"tag": f"t{number}"}))
    path, seen = f"/cowherd/images/{image.id}", []
    while path is not None:
        body = client.get(path).body.decode()
        seen.append(re.findall(r"t\d(?=</bdi>)", body))
        link = re.search(r"<a rel=next href='(\?before=\d+)#history'>", body)
        path = link and f"/cowherd/images/{image.id}{link[1]}"
    assert seen == [["t4", "t3"], ["t2", "t1"], ["t0"]]
    assert client.get(f"/cowherd/images/{image.id}?before=x").status == 400


def test_of_many_overlays_the_others_are_counted(client, tmp_path, monkeypatch):
    monkeypatch.setattr(image_page, "OVERLAYS", 2)
    with records(tmp_path) as connection:
        base = add_image(connection, "base")
        for number in range(5):
            add_image(connection, f"{number}", base)
    body = client.get(f"/cowherd/images/{base.id}").body.decode()
    assert len(rows_of(body)) == 3
    assert "5 overlays in all; 2 are shown." in words_of(body)


def test_what_happened_to_a_deleted_image_stays_for_administrators(furnished):
    answer = furnished.client.get("/cowherd/images/gone")
    assert answer.status == 404
    assert re.search(r"This image was deleted. What happened .* deleted somebody", words_of(answer.body.decode()))


@pytest.mark.parametrize("image_id", [str(uuid.UUID(int=1)), "x" * 300, "%00", "..", "v1", "%3Cb%3E"])
def test_an_image_that_never_was_has_no_page(furnished, image_id):
    answer = furnished.client.get(f"/cowherd/images/{image_id}", accept="text/html")
    assert (answer.status, b"<b>" in answer.body) == (404, False)


def test_links_lead_from_page_to_page(furnished):
    first, other = furnished.page(), furnished.page(f"images/{furnished.ids['overlay']}")
    assert f'<a href="images/{furnished.ids["overlay"]}">' in first
    assert f'<a href="../images/{furnished.ids["base"]}">' in other
    assert "<a href='../'>Image service</a>" in other


def test_a_deep_chain_is_drawn_to_a_bound(client, tmp_path):
    with records(tmp_path) as connection:
        image = add_image(connection, "root")
        for number in range(300):
            image = add_image(connection, f"{number}", image)
        family = add_family(connection, "other", 1)
    rows = rows_of(client.get(f"/cowherd/images/{image.id}").body.decode())
    assert 100 < len(rows) <= 202
    assert client.get(f"/cowherd/images/{family[0].id}").status == 200
