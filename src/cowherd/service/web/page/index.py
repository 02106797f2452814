"""The first page: whether everything is whole, the stores, what is under way, what failed lately, and the images."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.responses import RedirectResponse

from cowherd.pages.markup import Severity, count_of, marked, text
from cowherd.service.web.access import require
from cowherd.service.web.operation import operation
from cowherd.service.web.page.facts import LINES, asked_of, facts_of
from cowherd.service.web.page.frame import FRAMED, HTML, page_answer
from cowherd.service.web.page.tables import tree_of
from cowherd.service.web.page.whole import cards, soundness, stores
from cowherd.service.web.page.words import link_to
from cowherd.service.web.page.work import failed, under_way
from cowherd.service.web.versions import base_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.responses import Response

    from cowherd.service.web.call import Call
    from cowherd.service.web.page.facts import Asked, Facts

_PARTS = {"whole": "Whole?", "stores": "Stores", "under-way": "Under way", "failed": "Refused lately", "images": "Images"}


@operation("get_images", gives={HTML: None}, sent=FRAMED)
def show(call: Call) -> Response:
    """Shows the page."""
    require(call, "get_images")
    asked = asked_of(call)
    return page_answer("Image service", _parts(call, facts_of(call, asked), asked))


@operation(status=308, means={308: "the page is one level deeper"}, sent={"Location": "cowherd/"})
def redirect(call: Call) -> Response:
    """Leads to the address that the links of the page are for."""
    return RedirectResponse("cowherd/", 308)


def _parts(call: Call, facts: Facts, asked: Asked) -> Iterator[str]:
    shown = {name: title for name, title in _PARTS.items() if facts.whole is not None or name != "stores"}
    yield f"<header><h1>Image service</h1><p class=name>{text(base_url(call))}</p>"
    yield f"<p class=faint>as it was at <time>{facts.now:%Y-%m-%d %H:%M:%S} UTC</time>{_whose(call, facts)}</p>"
    yield from cards(facts)
    links = " ".join(f"<a href=#{name}>{title}</a>" for name, title in shown.items())
    yield f"<nav aria-label='parts of this page'>{links}</nav>"
    yield "</header><main>"
    yield "<section id=whole><h2>Is everything whole?</h2>"
    yield from soundness(call, facts)
    yield from _bad(facts)
    yield "</section>"
    if facts.whole is not None:
        yield "<section id=stores><h2>Stores</h2>"
        yield from stores(call, facts.whole, facts.now)
        yield "</section>"
    yield "<section id=under-way><h2>Under way</h2>"
    yield from under_way(call, facts)
    yield "</section><section id=failed><h2>Refused lately</h2>"
    yield from failed(facts)
    yield "</section><section id=images>"
    yield from _images(call, facts, asked)
    yield "</section></main>"


def _whose(call: Call, facts: Facts) -> str:
    project = call.caller.project
    return "" if facts.whole is not None or project is None else f", for the project <bdi class=name>{text(project)}</bdi>"


def _bad(facts: Facts) -> Iterator[str]:
    if not facts.bad:
        return
    yield "<ul class=reasons>"
    for image in facts.bad[:LINES]:
        reason = text(image.reason or "Its content is not whole.")
        yield f"<li><p>{marked(Severity.BAD, link_to('', image.name, image.id))}</p><p>{reason}</p></li>"
    yield "</ul>"
    if len(facts.bad) > LINES:
        yield f"<p class=faint>These are the latest {LINES}; there are more.</p>"


def _images(call: Call, facts: Facts, asked: Asked) -> Iterator[str]:
    yield f"<h2>{'Hidden images' if asked.hidden else 'Images'}</h2>"
    yield "<form class=find role=search action='./#images'><label>name or id <input type=search name=name maxlength=255 "
    yield f'value="{text(asked.name)}"></label><button>Find</button>{_other_lists(asked)}</form>'
    yield from tree_of(call, facts)
    if facts.images:
        yield f"<p>{_left_out(facts, asked)}</p>"


def _other_lists(asked: Asked) -> str:
    every = " <a href='./#images'>all images</a>" if asked != type(asked)() else ""
    return every if asked.hidden else f"{every} <a href='?hidden=true#images'>hidden images</a>"


def _left_out(facts: Facts, asked: Asked) -> str:
    """Returns how many images there are beside those that are drawn, and the link to them."""
    known = facts.whole is not None and not asked.name and not asked.hidden
    of = f" of {facts.whole.sums.images:,}" if known and facts.whole is not None else ""
    told = f"<span class=faint>{count_of(len(facts.images), 'image')}{of}, the latest first, and what they stand on.</span>"
    if not facts.is_more:
        return told
    after = {"marker": facts.images[-1].id, **({"name": asked.name} if asked.name else {}), **_hidden(asked)}
    return f'{told} <a rel=next href="?{text(urlencode(after))}#images">The next page</a>'


def _hidden(asked: Asked) -> dict[str, str]:
    return {"hidden": "true"} if asked.hidden else {}
