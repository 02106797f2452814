"""The look that all pages share (light, dark, narrow, on paper), and what a browser is told about them."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path


@cache
def style(own: Path) -> str:
    """Returns the style of a page as CSS: that of all pages, and then its `own`, a file."""
    basis = Path(__file__).with_name("basis.css")
    return basis.read_text(encoding="utf-8") + own.read_text(encoding="utf-8")


def source_of(content: str) -> str:
    """Returns how a Content Security Policy names a style or script that stands in the page itself."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def headers_of(policy: str) -> dict[str, str]:
    """Returns the headers of an answer that nobody is to keep, to frame, or to take for something else.

    `policy` says what the page may do, as a Content Security Policy.
    """
    return {
        "Content-Security-Policy": f"{policy}; frame-ancestors 'none'",
        "Cache-Control": "no-store",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
