"""What all pages are made of."""

from __future__ import annotations

import base64
import hashlib
import socket

import pytest

from cowherd.pages.hosts import is_own_name
from cowherd.pages.markup import Severity, branch, count_of, marked, text
from cowherd.pages.style import headers_of, source_of, style


def test_what_comes_from_outside_is_no_markup_and_turns_no_line():
    assert text('<a href="x">\'&\n\u202e\x1b[m') == "&lt;a href=&quot;x&quot;&gt;&#x27;&amp;\\x0a\\u202e\\x1b[m"
    assert text("\udcff\ud800") == "\\xff\\ud800"


def test_numbers_have_their_plural():
    assert [count_of(number, "image") for number in (0, 1, 1234)] == ["0 images", "1 image", "1,234 images"]


def test_a_severity_has_a_colour_and_a_shape():
    assert marked(Severity.BAD, "damaged") == "<span class=bad><b></b>damaged</span>"


def test_a_branch_leads_past_what_follows_and_up_to_the_base():
    assert branch((), has_overlays=True) == "<i class=d></i><b></b>"
    assert branch((True, False, True), has_overlays=False) == "<i class=l></i><i class=g></i><i class=t></i><b></b>"
    assert branch((False,), has_overlays=False) == "<i class=e></i><b></b>"


@pytest.mark.parametrize(
    ("name", "own"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("stranger.example", False), ("", False), ("127.0.0.1.x", False)],
)
def test_a_browser_means_this_host_by_an_address_or_by_its_own_names(name, own):
    assert is_own_name(name) is own
    assert is_own_name(socket.gethostname().lower())


def test_the_style_of_a_page_follows_what_is_common_to_all(tmp_path):
    own = tmp_path / "own.css"
    own.write_text("p { color: var(--ink); }\n")
    assert style(own).startswith(":root { color-scheme: light dark;")
    assert style(own).endswith("\np { color: var(--ink); }\n")


def test_a_style_is_named_by_its_hash():
    digest = base64.b64encode(hashlib.sha256(b"p {}").digest()).decode()
    assert source_of("p {}") == f"'sha256-{digest}'"


def test_nobody_keeps_or_frames_a_page():
    headers = headers_of("default-src 'none'")
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
