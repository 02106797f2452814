"""Documents are held to their schemas."""

from __future__ import annotations

import pytest

from cowherd.service.web.schemas.metadefs import NAMESPACE, OBJECT, PROPERTY, TAG_LIST
from cowherd.service.web.schemas.validation import problems


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ("a", {"type": "string"}),
        (None, {"type": ["null", "string"], "enum": [None, "a"]}),
        (1.5, {"type": "number", "minimum": 1}),
        ([1, 2], {"type": "array", "uniqueItems": True}),
        ({"namespace": "n", "properties": {"p": {"title": "t", "type": "string", "minLength": 3}}}, NAMESPACE),
        ({"name": "o", "required": ["a", "b"]}, OBJECT),
        ({"name": "p", "title": "t", "type": "array", "items": {"type": "string"}, "default": 5}, PROPERTY),
        ({"tags": [{"name": "t"}]}, TAG_LIST),
    ],
)
def test_a_valid_document_has_no_problem(value, schema):
    assert list(problems(value, schema)) == []


@pytest.mark.parametrize(
    ("value", "schema", "said"),
    [
        (1, {"type": "string"}, "1 is not of type string"),
        (True, {"type": "integer"}, "True is not of type integer"),
        (True, {"enum": [1]}, "not one of"),
        ("abc", {"maxLength": 2}, "longer than 2"),
        ("", {"minLength": 1}, "shorter than 1"),
        ("b", {"pattern": "^a$"}, "does not match"),
        ("a\n", {"pattern": "^a$"}, "does not match"),
        (5, {"maximum": 4}, "more than 4"),
        ([1, 1], {"uniqueItems": True}, "twice"),
        ({}, NAMESPACE, "'namespace' is a required property"),
        ({"namespace": "n", "colour": "red"}, NAMESPACE, "no property"),
        ({"namespace": "n", "properties": {"p": {"title": "t"}}}, NAMESPACE, "properties.p: 'type' is a required property"),
        ({"namespace": "n", "properties": {"p": {"title": "t", "type": "s"}}}, NAMESPACE, "properties.p.type"),
        ({"namespace": "n", "properties": {"p": {"title": "t", "type": "string", "minLength": -3}}}, NAMESPACE, "less than 0"),
        ({"tags": [{"name": "t", "x": "y"}]}, TAG_LIST, "tags[0]"),
    ],
)
def test_a_problem_says_what_is_wrong_and_where(value, schema, said):
    found = list(problems(value, schema))
    assert len(found) == 1
    assert said in found[0]
