"""Pieces of HTML that several parts of the report are made of."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from cowherd.cli.guard.look.page.states import severity_of
from cowherd.pages.markup import marked, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cowherd.herd.report.overview import Overview
    from cowherd.paths import PathName


class Places:
    """How the names of images are shown: without the directory of the herd if it is the only one of the page."""

    def __init__(self, seen: Overview):
        names = seen.tree.directory_names
        self._home = f"{names[0].rstrip('/')}/" if len(names) == 1 else ""

    def shown(self, path: PathName) -> str:
        """Returns a name as HTML."""
        return text(os.fspath(path).removeprefix(self._home))


def anchor(title: str | None) -> str:
    """Returns the id of a family on the page: the same whenever the page is made."""
    return f"f{hashlib.blake2s((title or '').encode('utf-8', 'surrogateescape'), digest_size=6).hexdigest()}"


def badge(state: str, words: str = "") -> str:
    """Returns a state in its colour and with its shape; `words` instead of its own if they are given, as HTML."""
    return marked(severity_of(state), words or state)


def badges(states: Mapping[str, int], most: int = 6) -> str:
    """Returns how many images are in each state; the last of many states are put together."""
    shown = [badge(state, f"{number:,} {state}") for state, number in list(states.items())[:most]]
    rest = sum(list(states.values())[most:])
    return " ".join([*shown, *([f"<span>{rest:,} others</span>"] if rest else [])])
