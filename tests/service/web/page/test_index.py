"""The first page of the service."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from html import unescape
from urllib.parse import quote

import pytest

from cowherd.service.records.events import Event, record_event
from cowherd.service.records.failures import FAILED
from cowherd.service.records.image import Image, now
from cowherd.service.records.images import create_image
from cowherd.service.records.members import add_member
from cowherd.service.records.tasks import FAILURE, PROCESSING, Task, create_task
from cowherd.service.records.uploads import UploadRecord, begin_upload
from cowherd.service.web.page import facts
from tests.service.web.page.furnished import HOSTILE, SHOWN, add_family, add_image, records


def words_of(html: str) -> str:
    """The words of a page, without its tags and its style."""
    words = " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL)).split())
    return re.sub(r" ([.,:;])", r"\1", words)


def rows_of(html: str) -> list[list[str]]:
    """The words in the cells of the tree."""
    tables = re.findall(r"<table class=tree>.*?</table>", html, re.DOTALL)
    rows = re.findall(r"<tr class=.*?</tr>", "".join(tables), re.DOTALL)
    return [[words_of(cell) for cell in re.findall(r"<td>.*?</td>", row, re.DOTALL)] for row in rows]


def test_what_is_damaged_is_told_first_with_its_remedy(furnished):
    words = words_of(furnished.page())
    assert "Is everything whole? No: 1 content damaged. Each" in words
    assert "windows-2022-0 The content of the image is damaged: in the store 'default' bytes 0-1048575" in words
    assert "Upload the same content again, or restore the file from a backup" in words


def test_the_stores_tell_what_they_hold_and_what_sharing_saves(furnished):
    words = words_of(furnished.page())
    assert re.search(r"default uploads go here not whole 28 1 0 .*\d+% [\d.]+ [MGT]iB", words)
    assert re.search(r"each content is stored once: 27 MiB\. That saves 8 B \(0\.0%\)\.", words)


def test_uploads_under_way_tell_how_much_came_and_how_fast(furnished):
    words = words_of(furnished.page())
    assert re.search(r"on-its-way resumable upload 3 MiB of 8 MiB ([\d.]+ .?i?B/s|waits: nothing came) .*ago default", words)


def test_what_was_refused_is_told_with_its_reason(furnished):
    words = words_of(furnished.page())
    assert re.search(r"refused \d+ \w+ ago The image was refused by the check 'format'", words)
    assert re.search(r"making a standalone image: debian-12-0 .* It is too large\.", words)


def test_images_are_drawn_as_trees(furnished):
    rows = {row[0]: row[1:] for row in rows_of(furnished.page())}
    assert rows["debian-12 qcow2"][0] == "whole"
    assert rows["windows-2022-0 qcow2"][0] == "damaged"
    assert rows["windows-2022-1 qcow2"][0] == "whole, its base is not"
    assert rows["windows-2022-6 qcow2"][0] == "whole"
    assert rows["refused qcow2"][0] == "got no content"
    assert rows["empty"][0] == "waits for content"
    assert rows["on-its-way raw"][0] == "arrives"
    assert rows["twin-a raw"][1:3] == ["8 B", "4 KiB shared with 1 more"]
    assert [rows[name][3] for name in ("debian-12-3 qcow2", "windows-2022 qcow2")] == ["everybody", "project office"]
    names = [row[0] for row in rows_of(furnished.page())]
    start = names.index("windows-2022 qcow2")
    assert [name.split()[0].removeprefix("windows-2022") for name in names[start : start + 8]] == [
        *("", "-0", "-1", "-2", "-5", "-4", "-3", "-6"),
    ]


def test_a_new_service_says_so(client):
    words = words_of(client.get("/cowherd/").body.decode())
    assert "Is everything whole? Nothing is stored yet. Stores" in words
    for told in ("Nothing is under way.", "Nothing was refused.", "No images."):
        assert told in words


def test_all_whole_and_verified_is_told(client, tmp_path):
    with records(tmp_path) as connection:
        add_image(connection, "a")
    words = words_of(client.get("/cowherd/").body.decode())
    assert "Yes: all that is stored was verified, and is as it was accepted. Each content is read again every 7 days." in words


def test_how_far_the_verification_is_behind_is_told(client, tmp_path):
    with records(tmp_path) as connection:
        for days in (1, 8, 30):
            image = add_image(connection, f"{days}")
            old = (now() - timedelta(days=days)).timestamp() * 1_000_000
            connection.exec_driver_sql("UPDATE places SET verified_at = ? WHERE blob = ?", (int(old), image.blob))
    words = words_of(client.get("/cowherd/").body.decode())
    assert "Nothing damaged is known, but not all was verified in time." in words
    assert "Behind: 2 contents, 2 MiB, not verified for 7 days, which takes 0 s." in words
    assert "The oldest verification was 30 d ago." in words


def test_a_store_that_cannot_be_read_is_told(client, tmp_path):
    store = tmp_path / "data" / "store"
    store.rename(tmp_path / "gone")
    words = words_of(client.get("/cowherd/").body.decode())
    (tmp_path / "gone").rename(store)
    assert "Nobody can tell: these stores can't be read: default" in words
    assert "not readable" in words


def test_hostile_words_are_shown_as_they_are_in_every_field(client, tmp_path):
    with records(tmp_path) as connection:
        fields = ("name", "owner", "container_format", "disk_format", "os_hash_algo", "os_hash_value", "checksum", "reason")
        image = add_image(connection, HOSTILE, **{name: HOSTILE for name in fields if name != "name"}, tags=(HOSTILE,))
        create_image(
            connection, Image(id=HOSTILE[:36], name=HOSTILE, owner=HOSTILE, reason=HOSTILE, properties={HOSTILE: HOSTILE})
        )
        add_member(connection, image.id, HOSTILE)
        told = {"user_id": HOSTILE, "project": HOSTILE, "request_id": HOSTILE, "image_id": image.id}
        record_event(connection, Event(action=FAILED, detail={"name": HOSTILE, "reason": HOSTILE, HOSTILE: [HOSTILE]}, **told))
        record_event(connection, Event(action=HOSTILE, detail={"url": f"http://{HOSTILE}/"}, **told))
        record_event(connection, Event(action=FAILED, image_id=HOSTILE, detail={"name": HOSTILE, "reason": HOSTILE}))
        asked = {"import_req": {"method": {"name": HOSTILE}}}
        facts_of_task = {"owner": HOSTILE, "message": HOSTILE, "image_id": image.id}
        create_task(connection, Task(id="1", type=HOSTILE, status=FAILURE, **facts_of_task))
        create_task(connection, Task(id="2", type="api_image_import", status=PROCESSING, input=asked, **facts_of_task))
        begun = {"kind": HOSTILE, "project": HOSTILE, "store": HOSTILE, "temporary": None, "expires_at": now(), "details": {}}
        begin_upload(connection, UploadRecord(id=HOSTILE, image_id=image.id, **begun))
        connection.exec_driver_sql("UPDATE places SET store = ?, verified_how = ?, state = ?", (HOSTILE,) * 3)
    pages = [client.get(f"/cowherd/{path}") for path in ("", f"images/{image.id}", f"?name={quote(HOSTILE)}")]
    for answer in pages:
        assert answer.status == 200
        body = answer.body.decode()
        for raw in ("<b>bold", "<!--", "\u202e", "\x1b", "\u0600", "passwd\n"):
            assert raw not in body
    assert [pages[place].body.decode().count(SHOWN) >= most for place, most in ((0, 15), (1, 15), (2, 2))] == [True] * 3


def test_a_browser_is_told_to_run_nothing_and_to_keep_nothing(furnished):
    headers = furnished.client.get("/cowherd/").headers
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/=]+'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        headers["content-security-policy"],
    )
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert (headers["x-frame-options"], headers["referrer-policy"]) == ("DENY", "no-referrer")
    assert not re.search(r"<script|<[^>]* (style|on\w+)=", furnished.page())


def test_the_address_without_its_slash_leads_there_and_head_is_answered(furnished):
    answer = furnished.client.get("/cowherd")
    assert (answer.status, answer.headers["location"]) == (308, "cowherd/")
    answer = furnished.client.ask("HEAD", "/cowherd/")
    assert (answer.status, answer.body) == (200, b"")
    assert furnished.client.ask("POST", "/cowherd/").status == 405


@pytest.mark.parametrize(("asked", "found"), [("debian-12-3", 1), ("no-such", 0), ("%00", 0), ("x" * 300, 0)])
def test_an_image_is_found_by_its_name(furnished, asked, found):
    names = [row[0].split()[0] for row in rows_of(furnished.page(f"?name={asked}"))]
    assert names.count(asked) == found


def test_an_image_is_found_by_its_id_with_what_it_stands_on(furnished):
    rows = rows_of(furnished.page(f"?name={furnished.ids['overlay']}"))
    assert [row[0] for row in rows] == ["debian-12 qcow2 5 overlays in all", "debian-12-0 qcow2 5 overlays in all"]


def test_hidden_images_have_a_list_of_their_own(client, tmp_path):
    with records(tmp_path) as connection:
        add_image(connection, "seen")
        add_image(connection, "unseen", os_hidden=True)
    assert [[row[0] for row in rows_of(client.get(f"/cowherd/{query}").body.decode())] for query in ("", "?hidden=true")] == [
        ["seen qcow2"],
        ["unseen qcow2"],
    ]


def test_pages_follow_each_other_until_all_images_were_drawn(client, tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "IMAGES", 4)
    monkeypatch.setattr("cowherd.service.web.page.index.LINES", 4)
    with records(tmp_path) as connection:
        family = add_family(connection, "f", 9)
    seen, path, pages = [], "", 0
    while path is not None:
        body = client.get(f"/cowherd/{path}").body.decode()
        seen += [row[0].split()[0] for row in rows_of(body)]
        link = re.search(r'<a rel=next href="([^"#]*)#images">', body)
        path, pages = link and unescape(link[1]), pages + 1
    assert pages == 3
    assert set(seen) == {image.name for image in family}
    assert seen.count("f") == 3  # on each page on which something stands on it


def test_a_marker_that_nobody_sees_is_refused(client):
    assert client.get(f"/cowherd/?marker={uuid.uuid4()}").status == 400
    assert client.get("/cowherd/?name=%ff").status == 400
