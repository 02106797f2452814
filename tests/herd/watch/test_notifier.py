"""Which of the kernel's two ways tells of what."""

from __future__ import annotations

import errno
import os
import select
import sys

import pytest

from cowherd.herd.watch import notifier as module
from cowherd.herd.watch.notifier import CantWatch, Notifier
from cowherd.herd.watch.stock import take_stock
from cowherd.live.fanotify import Fanotify
from cowherd.live.notices import What


@pytest.fixture
def stock(base):
    return take_stock([base.parent])


def heard(notifier: Notifier) -> set[What]:
    sources = list(notifier.sources())
    assert select.select(sources, [], [], 30)[0]
    return {notice.what for notice in notifier.read()}


def refuse(*_arguments: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_fanotify_is_enough_where_it_is_permitted(stock):
    try:
        Fanotify().close()
    except OSError as error:
        pytest.skip(f"fanotify: {error}")
    notifier = Notifier()
    assert notifier.watch(stock) == set(stock.by_file) | stock.directories
    assert [source.names_processes for source in notifier.sources()] == [True]
    assert notifier.why_not_fanotify is None
    notifier.close()


def test_without_the_permission_inotify_takes_its_place(stock, base, monkeypatch):
    monkeypatch.setattr(module, "Fanotify", refuse)
    notifier = Notifier()
    notifier.watch(stock)
    assert [source.names_processes for source in notifier.sources()] == [False]
    assert notifier.why_not_fanotify == "Operation not permitted"
    os.truncate(base, base.stat().st_size)
    assert What.WRITTEN in heard(notifier)
    notifier.close()


def test_a_file_system_that_fanotify_can_t_is_watched_by_inotify(stock, base, monkeypatch):
    monkeypatch.setattr(Fanotify, "add_file", refuse)
    notifier = Notifier()
    notifier.watch(stock)
    assert "Operation not permitted" in notifier.why_not_fanotify
    assert notifier.unwatched == {}
    os.truncate(base, base.stat().st_size)
    assert What.WRITTEN in heard(notifier)
    notifier.close()


def test_what_neither_can_is_listed_with_the_reason(stock, base, monkeypatch):
    monkeypatch.setattr(Notifier, "_mark", refuse)
    notifier = Notifier()
    assert notifier.watch(stock) == set()
    assert notifier.unwatched[base] == "Operation not permitted"
    notifier.close()


def test_what_is_watched_already_is_not_marked_again_and_a_new_file_is(stock, base):
    notifier = Notifier()
    notifier.watch(stock)
    assert notifier.watch(stock) == set()
    content = base.read_bytes()
    base.rename(base.with_name("old"))
    base.write_bytes(content)
    assert notifier.watch(stock) == {base}
    notifier.close()


def test_without_either_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "inotify_simple", None)
    with pytest.raises(CantWatch, match=r"pip install 'qemu-cowherd\[watch\]'"):
        Notifier(fanotify=False)
