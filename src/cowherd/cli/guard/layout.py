"""How JSON documents are laid out: readable, and soon done even for a herd of very many images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cowherd.cli.guard.output import Rows


def laid_out(document: Mapping[str, Any]) -> str:
    """Returns a document as JSON, as json.dumps(indent=2) would but for the lists in `Rows`, which have no lines of their own."""
    members = [f"{json.dumps(name)}: {_member(value)}" for name, value in document.items()]
    return "{\n  " + ",\n  ".join(members) + "\n}" if members else "{}"


def _member(value: object) -> str:
    if not isinstance(value, Rows) or not value:
        return json.dumps(value, indent=2).replace("\n", "\n  ")
    text = json.dumps(value, separators=(",\n      ", ": "))  # in JSON's strings there is no newline
    return text.replace("},\n      {", "\n    },\n    {\n      ").replace("[{", "[\n    {\n      ", 1)[:-2] + "\n    }\n  ]"
