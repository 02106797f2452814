"""What the service offers: ways to import, stores, and how much of a quota is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.web.access import require
from cowherd.service.web.call import document_answer
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource, untold_resource

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call


@operation(gives="import methods")
def show_imports(call: Call) -> Response:
    """Shows the ways in which images can be imported."""
    value = list(call.service.settings.import_methods)
    return document_answer({"import-methods": {"description": "Import methods available.", "type": "array", "value": value}})


@operation(gives="stores")
def show_stores(call: Call) -> Response:
    """Shows the stores."""
    return document_answer({"stores": [*(_store(call, name) for name in call.service.stores), *_web_stores(call)]})


@operation("stores_info_detail", gives="stores in detail")
def show_stores_in_detail(call: Call) -> Response:
    """Shows the stores with where they are."""
    require(call, "stores_info_detail")
    web = [{**one, "type": "http", "properties": {}, "weight": 0} for one in _web_stores(call)]
    return document_answer({"stores": [*(_store_in_detail(call, name) for name in call.service.stores), *web]})


@operation("get_usage", gives="usage")
def show_usage(call: Call) -> Response:
    """Shows how much of its quotas the caller's project uses. There are none but the fixed ones."""
    require(call, "get_usage")
    return document_answer({"usage": {}})


def _store(call: Call, name: str) -> dict[str, Any]:
    default = {"default": "true"} if name == call.service.default_store else {}
    return {"id": name, "description": f"the store {name}", **default}


def _web_stores(call: Call) -> list[dict[str, Any]]:
    name = call.service.settings.http_store
    return [{"id": name, "description": "addresses on the web", "read-only": "true"}] if name else []


def _store_in_detail(call: Call, name: str) -> dict[str, Any]:
    store = call.service.stores[name]
    weight = len(call.service.stores) - list(call.service.stores).index(name)
    properties = {"data_dir": str(store.directory), "chunk_size": 1 << 20, "thin_provisioning": True}
    return {**_store(call, name), "type": "file", "properties": properties, "weight": weight}


ROUTES: list[Route] = [
    resource("/v2/info/import", GET=show_imports),
    resource("/v2/info/stores", GET=show_stores),
    resource("/v2/info/stores/detail", GET=show_stores_in_detail),
    untold_resource("/v2/info/usage", GET=show_usage),
]
