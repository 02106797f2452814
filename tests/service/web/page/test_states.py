"""The one state that an image has on the page."""

from __future__ import annotations

import pytest

from cowherd.pages.markup import Severity
from cowherd.service.records.image import Image, Location
from cowherd.service.records.places import Place
from cowherd.service.records.states import TARGETS
from cowherd.service.web.page.states import state_of


def places(*states: str) -> list[Place]:
    return [Place("b", f"store {number}", state, None, None) for number, state in enumerate(states)]


@pytest.mark.parametrize(
    ("status", "stored", "words", "severity"),
    [
        ("queued", [], "waits for content", Severity.QUIET),
        ("saving", [], "arrives", Severity.QUIET),
        ("active", ["whole"], "whole", Severity.GOOD),
        ("active", ["whole", "damaged"], "not whole in each store", Severity.WARN),
        ("active", ["damaged", "missing"], "damaged", Severity.BAD),
        ("active", ["missing"], "missing", Severity.BAD),
        ("active", [], "without content", Severity.BAD),
        ("deactivated", ["whole"], "out of use", Severity.QUIET),
        ("deactivated", ["damaged"], "damaged", Severity.BAD),
        ("pending_delete", ["whole"], "pending delete", Severity.QUIET),
    ],
)
def test_a_state_is_that_of_the_record_and_of_the_content(status, stored, words, severity):
    assert state_of(Image(id="a", status=status, blob="b"), places(*stored)) == (words, severity)


def test_content_elsewhere_is_told():
    image = Image(id="a", status="active", locations=(Location("http://elsewhere.example/a"),))
    assert state_of(image, []) == ("elsewhere on the web", Severity.QUIET)


def test_an_image_that_failed_says_so_until_it_has_content():
    assert state_of(Image(id="a", reason="The image was refused"), []) == ("got no content", Severity.WARN)


@pytest.mark.parametrize("status", TARGETS)
def test_every_status_has_a_state(status):
    assert state_of(Image(id="a", status=status), places("whole")).words
