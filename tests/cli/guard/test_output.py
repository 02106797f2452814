from __future__ import annotations

import json

import pytest

from cowherd.cli.guard.layout import laid_out
from cowherd.cli.guard.output import Rows, table

ROW = {"path": 'a"},\n      {', "names": ["x", "y"], "size": None, "sealed": True}


@pytest.mark.parametrize("document", [{}, {"a": 1}, {"a": [], "b": {"c": [1, {"d": "\n"}]}}, {"images": Rows(), "b": 2}])
def test_documents_are_laid_out_as_json_does_it(document):
    assert laid_out(document) == json.dumps(document, indent=2)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_rows_are_objects_with_a_line_for_each_member(count):
    document = {"before": [1, 2], "rows": Rows([ROW] * count), "after": None}
    text = laid_out(document)
    assert json.loads(text) == {**document, "rows": [ROW] * count}
    assert text.count('\n      "path": ') == text.count('\n      "sealed": true\n    }') == count


def test_columns_are_as_wide_as_their_longest_cell_and_nothing_trails():
    assert table([("a", "bb", "c"), ("aaa", "b", "")]) == ["a    bb  c", "aaa  b"]
