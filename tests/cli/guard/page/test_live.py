"""When a live page is made anew, and when not."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from types import SimpleNamespace

import pytest

from cowherd.cli.guard.look.page import live as living
from cowherd.cli.guard.look.page.live import LivePage
from cowherd.errors import InvalidRequest
from cowherd.herd.report.overview import overview
from tests.herd.watch.reporting.events import event
from tests.waiting import wait_until


@pytest.fixture
def herd(tmp_path, monkeypatch):
    monkeypatch.setattr(living, "_SHORTEST_PAUSE", 0.05)
    monkeypatch.setattr(living, "_REST", 0)
    return Herd(overview([tmp_path]))


class Herd:
    """A herd that is looked at, and what a reader of its page is told."""

    def __init__(self, seen):
        self.seen, self.looks, self.problem = seen, 0, None
        self.looked = threading.Event()

    def look(self):
        self.looks += 1
        self.looked.set()
        if self.problem:
            raise self.problem
        return self.seen

    def change(self, name="/new"):
        tree = self.seen.tree._replace(directory_names=(name,))
        self.seen = dataclasses.replace(self.seen, made=f"at {name}", tree=tree)


def told(page):
    return json.loads(page.version())


@pytest.fixture
def page(herd):
    made = LivePage(herd.look)
    yield made
    made.close()


def test_the_first_page_is_made_at_once(herd, page):
    assert herd.looks == 1
    assert b"data-version=1>" in page.page()
    assert told(page) == {"version": 1, "made": herd.seen.made, "problem": None}


def test_an_event_makes_a_new_version_of_a_page_that_is_looked_at(herd, page):
    herd.change()
    page.report(event())
    wait_until(lambda: told(page)["version"] == 2)
    assert b"/new" in page.page()


def test_changes_that_are_no_event_do_so_too(herd, page):
    herd.change()
    page.hear(SimpleNamespace(watch=SimpleNamespace(changes=1)))
    wait_until(lambda: told(page)["version"] == 2)
    looks = herd.looks
    page.hear(SimpleNamespace(watch=SimpleNamespace(changes=1)))
    time.sleep(0.3)
    assert herd.looks == looks


def test_nothing_is_looked_at_for_nobody(herd, page):
    page.report(event())
    time.sleep(0.3)
    assert herd.looks == 1
    page.version()
    wait_until(lambda: herd.looks == 2)


def test_a_herd_in_which_nothing_is_new_keeps_its_version(herd, page):
    herd.seen = dataclasses.replace(herd.seen, made="later")
    page.version()
    page.report(event())
    wait_until(lambda: told(page)["made"] == "later")
    assert told(page)["version"] == 1


def test_without_events_it_is_looked_at_again_in_time(herd, page, monkeypatch):
    monkeypatch.setattr(living, "OLDEST_SECONDS", 0.1)
    wait_until(lambda: page.version() and herd.looks > 2)


def test_a_reader_is_told_of_what_went_wrong_and_of_its_end(herd, page):
    herd.problem = InvalidRequest("no <way>")
    page.page()
    page.report(event())
    wait_until(lambda: told(page)["problem"] == "no <way>")
    assert b"data-version=1>" in page.page()
    herd.problem = None
    page.report(event())
    wait_until(lambda: told(page)["problem"] is None)


def test_what_takes_long_is_not_done_all_the_time(herd, monkeypatch):
    monkeypatch.setattr(living, "_REST", 50)
    herd.look = lambda before=herd.look: time.sleep(0.1) or before()
    page = LivePage(herd.look)
    page.version()
    page.report(event())
    time.sleep(0.5)
    page.close()
    assert herd.looks == 1
