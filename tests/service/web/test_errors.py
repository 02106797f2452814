"""The bodies of errors."""

from __future__ import annotations

import json

import pytest

from cowherd.service.web.errors import Conflict, MethodNotAllowed, NotFound, answer_to_error

HTML, JSON, TEXT = "text/html; charset=UTF-8", "application/json", "text/plain; charset=UTF-8"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", TEXT),
        ("*/*", HTML),
        ("application/json", JSON),
        ("text/html;q=0.5, application/json", JSON),
        ("application/*", JSON),
        ("application/*;q=0.5, */*;q=0.8", HTML),
        ("application/json;q=0", TEXT),
        ("application/json;q=x", TEXT),
        ("image/png", TEXT),
    ],
)
def test_the_kind_of_the_body_is_what_the_client_takes(accept, kind):
    assert answer_to_error(accept, NotFound("no such thing")).headers["content-type"] == kind


def test_json_has_a_message_a_code_and_a_title():
    document = json.loads(answer_to_error("application/json", Conflict("it is <there>")).body)
    assert document.keys() == {"message", "code", "title"}
    assert document["code"] == "409 Conflict"
    assert document["title"] == "Conflict"
    assert "it is <there>" in document["message"]


def test_markup_in_a_message_is_no_markup_in_html():
    body = answer_to_error("text/html", NotFound("<script>")).body
    assert b"&lt;script&gt;" in body
    assert b"<script>" not in body
    assert b"<title>404 Not Found</title>" in body


def test_an_error_brings_its_headers():
    assert answer_to_error("", MethodNotAllowed("no", {"Allow": "GET, PUT"})).headers["allow"] == "GET, PUT"
