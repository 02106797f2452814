"""The catalogue of names and values for properties (metadefs)."""

from __future__ import annotations

from typing import Any

from tests.openstack.recorder.request import JSON, Request, Scene, ask, delete, get, post, put, unrecorded

_ALL = "/v2/metadefs/namespaces"
_N = f"{_ALL}/n"


def _namespace(name: Any = "n", who: str = "admin", **values: Any) -> Request:
    return post(_ALL, {"namespace": name, **values}, who)


_OBJECT = {
    "name": "o",
    "description": "d",
    "required": ["p"],
    "properties": {"p": {"title": "t", "type": "integer", "minimum": 1, "maximum": 9, "default": 3}},
}
_PROPERTY = {"name": "p", "title": "t", "type": "string", "enum": ["a", "b"], "default": "a"}

NAMESPACES = Scene(
    "namespaces",
    [
        get(_ALL),
        _namespace(who="member"),
        _namespace(who="reader"),
        _namespace(who="nobody"),
        _namespace(),
        _namespace(),
        get(_N),
        get(_N, "admin"),
        _namespace("full", display_name="d", description="d", visibility="public", protected=True, owner="{project}"),
        _namespace("alts", owner="{alt_project}", visibility="private"),
        *(_namespace(name) for name in ("x" * 80, "x" * 81, "x" * 256, None, 7, "with space", "a::b", "nul\0")),
        *(_namespace("v", visibility=value) for value in ("x", "shared", None, 7)),
        *(_namespace("v", protected=value) for value in ("true", None)),
        *(_namespace("v", **{key: "2020-01-01T00:00:00Z"}) for key in ("created_at", "updated_at", "self", "schema", "unknown")),
        _namespace("v", display_name="x" * 81),
        _namespace("v", description="x" * 501),
        *(post(_ALL, body, "admin") for body in ({}, [], None, 7, {"display_name": "d"})),
        ask("POST", _ALL, "admin", b"{", headers={"Content-Type": JSON}),
        *(get(f"{_ALL}/{name}", who) for name in ("full", "alts", "missing") for who in ("member", "alt", "admin", "reader")),
        *(get(_ALL, who) for who in ("member", "alt", "admin")),
        *(
            get(f"{_ALL}?{query}")
            for query in (
                "limit=1",
                "limit=0",
                "limit=-1",
                "limit=x",
                "limit=2&sort_key=namespace&sort_dir=asc",
                "sort_key=namespace&sort_dir=desc",
                "sort_key=x",
                "sort_dir=x",
                "marker=full",
                "marker=missing",
                "visibility=public",
                "visibility=private",
                "visibility=x",
                "resource_types=a",
                "unknown=x",
                "marker=n&sort_key=namespace&sort_dir=asc",
            )
        ),
        put(_N, {"namespace": "n", "description": "changed"}),
        put(_N, {"namespace": "n", "description": "changed", "visibility": "public"}, "admin"),
        put(_N, {"namespace": "full"}, "admin"),
        put(_N, {"namespace": "renamed"}, "admin"),
        get(_N, "admin", note="renamed"),
        put(f"{_ALL}/renamed", {"namespace": "n"}, "admin"),
        *(put(_N, body, "admin") for body in ({}, [], {"namespace": "n", "visibility": "x"}, {"description": "no name"})),
        put(f"{_ALL}/missing", {"namespace": "missing"}, "admin"),
        delete(f"{_ALL}/full", "admin"),
        delete(_N),
        delete(_N, "reader"),
        delete(_N, "admin"),
        delete(_N, "admin"),
        delete(f"{_ALL}/missing", "admin"),
    ],
)


def _inside(kind: str, name: str, body: dict[str, Any], bad: list[Any]) -> list[Request]:
    """The life of one object, property or tag of a namespace."""
    folder = f"{_N}/{kind}"
    one = f"{folder}/{name}"
    return [
        *unrecorded(_namespace(visibility="public")),
        get(folder),
        get(one),
        post(folder, body),
        post(folder, body, "reader"),
        post(folder, body, "admin"),
        post(folder, body, "admin"),
        *(get(folder, who) for who in ("member", "alt", "admin", "nobody")),
        *(get(one, who) for who in ("member", "alt", "nobody")),
        *(post(folder, wrong, "admin") for wrong in bad),
        ask("POST", folder, "admin", b"{", headers={"Content-Type": JSON}),
        put(one, body),
        put(one, body, "admin"),
        put(one, {**body, "name": "renamed"}, "admin"),
        get(f"{folder}/renamed"),
        put(f"{folder}/renamed", {**body, "name": name}, "admin"),
        *(put(one, wrong, "admin") for wrong in ({}, [], {"name": 7})),
        put(f"{folder}/missing", {**body, "name": "missing"}, "admin"),
        *(
            get(f"{folder}?{query}")
            for query in ("limit=1", "limit=0", "limit=x", "marker=missing", "sort_key=name", "sort_key=x", "sort_dir=x")
        ),
        get(f"{folder}/missing"),
        delete(f"{folder}/missing", "admin"),
        delete(one),
        delete(one, "admin"),
        delete(one, "admin"),
        *unrecorded(post(folder, body, "admin")),
        get(f"{_N}", note=f"with {kind}"),
        delete(folder),
        delete(folder, "admin"),
        get(folder, note="after"),
        *(ask(method, f"{_ALL}/missing/{kind}", "admin") for method in ("GET", "DELETE")),
        post(f"{_ALL}/missing/{kind}", body, "admin"),
        get(f"{_ALL}/missing/{kind}/{name}"),
    ]


OBJECTS = Scene(
    "metadef objects",
    _inside(
        "objects",
        "o",
        _OBJECT,
        [{}, [], {"name": 7}, {"name": ""}, {"name": "x" * 81}, {"name": "b", "properties": []}, {"name": "b", "unknown": 1}],
    ),
)
PROPERTIES = Scene(
    "metadef properties",
    _inside(
        "properties",
        "p",
        _PROPERTY,
        [
            {},
            [],
            {"name": "b"},
            {"name": "b", "title": "t"},
            {"name": "b", "title": "t", "type": "x"},
            {"name": "x" * 81, "title": "t", "type": "string"},
            {"name": "b", "title": "t", "type": "string", "unknown": 1},
            {"name": "c", "title": "t", "type": "array", "items": {"type": "string"}, "uniqueItems": True, "minItems": 1},
            {"name": "d", "title": "t", "type": "boolean", "operators": ["<or>"], "readonly": True},
            {"name": "e", "title": "t", "type": "string", "pattern": "^a", "minLength": 1, "maxLength": 9},
            {"name": "f", "title": "t", "type": "integer", "minimum": "x"},
        ],
    ),
)

_TAGS = f"{_N}/tags"
TAGS = Scene(
    "metadef tags",
    [
        *unrecorded(_namespace(visibility="public")),
        get(_TAGS),
        get(f"{_TAGS}/t"),
        post(f"{_TAGS}/t"),
        post(f"{_TAGS}/t", who="admin"),
        post(f"{_TAGS}/t", who="admin"),
        get(f"{_TAGS}/t"),
        get(_TAGS),
        post(f"{_TAGS}/{'x' * 80}", who="admin"),
        post(f"{_TAGS}/{'x' * 81}", who="admin"),
        *(
            post(_TAGS, body, "admin")
            for body in ({"tags": []}, {"tags": [{"name": "a"}, {"name": "b"}]}, {"tags": [{"name": "a"}, {"name": "a"}]})
        ),
        get(_TAGS, note="replaced"),
        *(
            post(_TAGS, body, "admin")
            for body in ({}, [], {"tags": "x"}, {"tags": [{}]}, {"tags": [{"name": 7}]}, {"tags": ["x"]})
        ),
        post(_TAGS, {"tags": [{"name": "c"}]}),
        post(_TAGS, {"tags": [{"name": "c"}]}, "admin", headers={"X-Openstack-Append": "True"}),
        get(_TAGS, note="appended"),
        *(
            get(f"{_TAGS}?{query}")
            for query in (
                "limit=1",
                "limit=0",
                "limit=x",
                "marker=missing",
                "marker=b",
                "sort_key=name&sort_dir=asc",
                "sort_key=x",
            )
        ),
        put(f"{_TAGS}/a", {"name": "a2"}, "admin"),
        put(f"{_TAGS}/a2", {"name": "b"}, "admin"),
        put(f"{_TAGS}/a2", {}, "admin"),
        put(f"{_TAGS}/a2", {"name": "z"}),
        put(f"{_TAGS}/missing", {"name": "z"}, "admin"),
        delete(f"{_TAGS}/b"),
        delete(f"{_TAGS}/b", "admin"),
        delete(f"{_TAGS}/b", "admin"),
        get(_N, note="with tags"),
        delete(_TAGS),
        delete(_TAGS, "admin"),
        get(_TAGS, note="after"),
        get(f"{_ALL}/missing/tags"),
        post(f"{_ALL}/missing/tags/t", who="admin"),
    ],
)

_TYPES = f"{_N}/resource_types"
RESOURCE_TYPES = Scene(
    "metadef resource types",
    [
        *unrecorded(_namespace(visibility="public")),
        get(_TYPES),
        post(_TYPES, {"name": "R::A"}),
        post(_TYPES, {"name": "R::A", "prefix": "p:", "properties_target": "x"}, "admin"),
        post(_TYPES, {"name": "R::A"}, "admin"),
        post(_TYPES, {"name": "R::B"}, "admin"),
        *(
            post(_TYPES, body, "admin")
            for body in ({}, [], {"name": 7}, {"name": ""}, {"name": "x" * 81}, {"name": "c", "unknown": 1}, {"prefix": "p"})
        ),
        get(_TYPES),
        get(f"{_TYPES}?limit=1"),
        get(_N, note="with types"),
        get(f"{_ALL}?resource_types=R::A"),
        get(f"{_ALL}?resource_types=R::A,R::C"),
        get(f"{_ALL}?resource_types=R::C"),
        *unrecorded(post(f"{_N}/properties", _PROPERTY, "admin")),
        get(f"{_N}?resource_type=R::A"),
        get(f"{_N}/properties/p?resource_type=R::A"),
        get(f"{_N}/properties/p:p?resource_type=R::A"),
        get(f"{_N}/properties/p?resource_type=R::C"),
        delete(f"{_TYPES}/R::A"),
        delete(f"{_TYPES}/R::A", "admin"),
        delete(f"{_TYPES}/R::A", "admin"),
        delete(f"{_TYPES}/missing", "admin"),
        get(f"{_ALL}/missing/resource_types"),
        post(f"{_ALL}/missing/resource_types", {"name": "R::A"}, "admin"),
        *(get("/v2/metadefs/resource_types", who) for who in ("member", "reader", "nobody")),
    ],
)

NESTED = Scene(
    "namespace with contents",
    [
        post(
            _ALL,
            {
                "namespace": "n",
                "visibility": "public",
                "resource_type_associations": [{"name": "R::D", "prefix": "x_"}],
                "properties": {"p": {"title": "t", "type": "string"}},
                "objects": [{"name": "o", "properties": {"q": {"title": "t", "type": "integer"}}}],
                "tags": [{"name": "t"}],
            },
            "admin",
        ),
        get(_N),
        get(_ALL),
        *(get(f"{_N}/{kind}") for kind in ("objects", "properties", "tags", "resource_types")),
        delete(_N, "admin"),
    ],
)

SCENES = (NAMESPACES, OBJECTS, PROPERTIES, TAGS, RESOURCE_TYPES, NESTED)
