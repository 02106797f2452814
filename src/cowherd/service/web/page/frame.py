"""What stands around the content of each page, and what is told to the browser about it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import Response

from cowherd.pages.markup import text
from cowherd.pages.style import headers_of, source_of, style

if TYPE_CHECKING:
    from collections.abc import Iterable


HTML = "text/html"
FRAMED = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "nothing is loaded from elsewhere, and no other page frames this one",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What clients are told of the headers."""


def page_answer(title: str, parts: Iterable[str], status: int = 200) -> Response:
    """Returns a page with the given content, which is HTML; the title is text."""
    head = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(title)}</title>\n<style>{_style()}</style>\n</head>\n<body>",
    ]
    body = "\n".join([*head, *parts, "</body>\n</html>\n"])
    return Response(body.encode(), status, _headers(), f"{HTML}; charset=utf-8")


@cache
def _style() -> str:
    return style(Path(__file__).with_name("style.css"))


@cache
def _headers() -> dict[str, str]:
    policy = f"default-src 'none'; style-src {source_of(_style())}; base-uri 'none'; form-action 'self'"
    return {**headers_of(policy), "X-Frame-Options": "DENY"}
