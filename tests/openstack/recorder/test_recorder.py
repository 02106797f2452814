"""The recorder itself: scenes name each request once, and every kind of difference is found."""

from __future__ import annotations

import json

import pytest

from tests.openstack.recorder.compare import Difference, differences, table
from tests.openstack.recorder.play import Target, play
from tests.openstack.recorder.reasons import report
from tests.openstack.recorder.records import read_records, write_records
from tests.openstack.recorder.request import Scene, create, get, unrecorded
from tests.openstack.recorder.scenes import SCENES
from tests.webserver import serving


def answer(status=200, headers=None, body=None):
    return {"status": status, "headers": headers or {}, "body": body}


def test_glance_has_answered_every_request_of_the_scenes_and_no_other():
    titles = [title for scene in SCENES for title, request in scene.titled() if request.recorded]
    assert list(read_records()) == titles


def test_repeated_requests_are_numbered():
    scene = Scene("s", [get("/x"), get("/x"), get("/x", note="n")])
    assert [title for title, _ in scene.titled()] == ["s: GET /x", "s: GET /x #2", "s: GET /x (n)"]


def test_what_only_prepares_is_not_recorded():
    assert [request.recorded for request in [*unrecorded(create("a")), get("/x")]] == [False, True]


@pytest.mark.parametrize(
    ("glance", "ours", "parts"),
    [
        (answer(), answer(), []),
        (answer(200, {"a": "1"}), answer(404, {"b": "2"}), ["status"]),
        (answer(headers={"a": "1", "b": "2"}), answer(headers={"a": "1", "c": "2"}), ["header b", "header c"]),
        (answer(body={"a": 1, "b": [1, 2]}), answer(body={"a": 1, "b": [1, 3]}), ["body.b.1"]),
        (answer(body={"a": [1]}), answer(body={"a": [1, 2]}), ["body.a"]),
        (answer(body={"a": 1}), answer(body={"a": True}), ["body.a"]),
        (answer(body={"a": None}), answer(body={}), ["body.a"]),
        (answer(body="<text>"), answer(body={}), ["body"]),
    ],
)
def test_a_difference_says_which_part(glance, ours, parts):
    assert [one.part for one in differences({"t": glance}, {"t": ours})] == parts


def test_answers_that_only_one_gave_differ():
    assert differences({"a": answer()}, {"b": answer(404)}) == [
        Difference("a", "answer", 200, "(absent)"),
        Difference("b", "answer", "(absent)", 404),
    ]


def test_the_table_names_each_request_once():
    found = [Difference("t", "status", 200, 404), Difference("t", "header a", "(absent)", "x" * 200)]
    assert table(found).splitlines()[:2] == ["t", "    status: Glance 200, ours 404"]
    assert table(found).count("\nt") == 0


@pytest.mark.parametrize(
    ("difference", "explained"),
    [
        (Difference("t", "header etag", "(absent)", '"x"'), True),
        (Difference("t", "header etag", '"y"', '"x"'), False),
        (Difference("t", "status", 500, 400), True),
        (Difference("t", "status", 200, 404), False),
        (Difference("t", "header x-openstack-request-id", "(absent)", "<request>"), True),
        (Difference("t", "body.status", 500, 400), False),
    ],
)
def test_only_what_has_a_reason_is_left_out_of_the_table(difference, explained):
    text, good = report([difference])
    assert good is explained
    assert ("\n    " in text) is not explained


def test_records_are_read_as_they_were_written(tmp_path):
    answers = {"a: GET /": answer(body={"ü": "\n"}), "b": answer(404)}
    write_records(tmp_path / "answers.json", answers)
    assert read_records(tmp_path / "answers.json") == answers


_EMPTY = {"/v2/images": {"images": []}, "/v2/metadefs/namespaces": {"namespaces": []}}
_ID, _OTHER = "11111111-2222-4333-8444-555555555555", "99999999-2222-4333-8444-555555555555"


@pytest.fixture
def service():
    """A service that has no images, and answers every other path with one document."""
    document = {
        "id": _ID,
        "other": _OTHER,
        "when": "2026-11-29T12:00:00Z",
        "description": "said in words",
        "list": [{"name": "a", "size": 1}, {"name": "b", "size": 2}],
        "size": 7,
    }

    def answered(handler, asked):
        known = _EMPTY.get(asked.target.partition("?")[0], document)
        handler.send(200, json.dumps(known).encode(), Content_Type="application/json", X_Id=_ID)

    with serving(b"") as server:
        server.answer = answered
        yield server


def played(service, *requests):
    target = Target(service.address.removesuffix("/image"), {"member": "t", "admin": "t"}, {"project": "some-project"})
    return play([Scene("s", requests)], target)


def test_ids_times_and_prose_are_named_and_of_a_list_the_first_entry_is_whole(service):
    noted = played(service, get("/x", keep=(("a", "id"),)))["s: GET /x"]
    assert noted["headers"] == {"content-length": "<length>", "content-type": "application/json", "x-id": "<a>"}
    assert noted["body"] == {
        "id": "<a>",
        "other": "<uuid>",
        "when": "<time>",
        "description": "<text>",
        "list": [{"name": "a", "size": 1}, "b"],
        "size": 7,
    }


def test_kept_values_are_put_into_later_requests_and_escaped_in_paths(service):
    played(service, get("/x", keep=(("a", "id"),)), get("/y/{a}/{project}", headers={"X-A": "{project}"}))
    asked = next(one for one in service.requests if one.target.startswith("/y"))
    assert (asked.target, asked.headers["X-A"], asked.headers["X-Auth-Token"]) == (f"/y/{_ID}/some-project", "some-project", "t")
