"""JSON as commands print it: a document, and lists of very many objects in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cowherd.cli.guard.layout import laid_out
from cowherd.cli.guard.rows import Rows


@pytest.mark.parametrize("number", [0, 1, 2, 999, 1000, 1001, 2500])
def test_rows_are_what_the_plain_encoder_makes_of_a_list(number: int):
    rows = [{"name": f'"}},\n      {{{index}', "size": index, "none": None} for index in range(number)]
    document = {"before": [{"a": 1}], "rows": rows, "after": {}}
    assert "".join(laid_out({**document, "rows": Rows(rows)})) == json.dumps(document, indent=2)


def test_rows_that_hold_objects_are_laid_out_among_others():
    rows = [{"name": "[{", "on": []}, {"on": [{"pid": 1, "names": ["a", "b"]}, {"pid": 2}]}, {"name": "b"}]
    document = {"rows": rows, "after": 1}
    assert "".join(laid_out({**document, "rows": Rows(rows)})) == json.dumps(document, indent=2)


def test_an_empty_document_has_braces():
    assert "".join(laid_out({})) == "{}"


def test_objects_are_made_as_they_are_printed():
    made = 0

    def objects() -> Iterator[dict[str, Any]]:
        nonlocal made
        for made in range(1, 10_001):
            yield {"number": made}

    text = laid_out({"rows": Rows(objects())})
    for piece in text:
        if "number" in piece:
            break
    assert made <= 1000
