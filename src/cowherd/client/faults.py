"""The errors of talking to an image service.

CowherdError
    NoService           nothing says which service is meant
    ServiceUnreachable  no answer comes
    ServiceRefused      the answer is an error
    NoSuchImage         the service has no image, or several, of that name
    ContentDiffers      what arrived is not what was sent
    FileDiffers         another file has the name of what is pulled
"""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING

from cowherd.errors import CowherdError
from cowherd.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TAGS = re.compile(r"<head>.*?</head>|<[^>]*>", re.DOTALL)
_LONGEST = 500


class NoService(CowherdError):
    """Nothing says which service is meant. Attributes: `problem`."""

    exit_code = 2

    def __init__(self, problem: str):
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.problem}; name the service with --to URL, COWHERD_SERVICE, or OpenStack's clouds.yaml or OS_* variables"


class ServiceUnreachable(CowherdError):
    """No answer came. Attributes: `address`, `reason`."""

    def __init__(self, address: str, reason: str):
        self.address, self.reason = address, reason

    def __str__(self) -> str:
        return f"{printable(self.address)} does not answer: {printable(self.reason)}"


class ServiceRefused(CowherdError):
    """The answer was an error. Attributes: `status` (of HTTP), `problem` (what the service says)."""

    def __init__(self, status: int, problem: str):
        self.status, self.problem = status, problem

    def __str__(self) -> str:
        return f"the service refused ({self.status}): {printable(self.problem)}"


class NoSuchImage(CowherdError):
    """A name or id means no image, or several. Attributes: `name`, `ids` (of those that it could mean)."""

    def __init__(self, name: str, ids: Sequence[str] = ()):
        self.name, self.ids = name, tuple(ids)

    def __str__(self) -> str:
        if not self.ids:
            return f"the service has no image {self.name!a} with content; 'cowherd images' lists what it has"
        return f"{len(self.ids)} images are called {self.name!a}; name one by its id: {', '.join(map(printable, self.ids))}"


class ContentDiffers(CowherdError):
    """What arrived is not what was sent. Attributes: `what` (the image), `problem`."""

    exit_code = 4

    def __init__(self, what: str, problem: str):
        self.what, self.problem = what, problem

    def __str__(self) -> str:
        return f"{printable(self.what)}: {self.problem}"


class FileDiffers(CowherdError):
    """Another file has the name of an image that is pulled. Attributes: `path`."""

    def __init__(self, path: Path):
        self.path = path

    def __str__(self) -> str:
        return f"{printable(self.path)} is there already, and is not known to be what would be pulled; name another file with -o"


def refusal(status: int, body: bytes) -> ServiceRefused:
    """Returns the error that an answer tells of: its JSON message, or the text of its page."""
    text = body.decode("utf-8", "replace")
    try:
        document = json.loads(text)
        text = str(document["message"] if "message" in document else document["error"]["message"])
    except (ValueError, KeyError, TypeError):  # a page, or some other document
        pass
    plain = " ".join(html.unescape(_TAGS.sub(" ", text)).split())
    return ServiceRefused(status, plain[:_LONGEST] or "no reason was given")
