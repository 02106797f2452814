"""Whether the service can work: its database and its stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from cowherd.service.web.call import document_answer, empty_answer
from cowherd.service.web.operation import JSON, operation

if TYPE_CHECKING:
    from cowherd.service.web.call import Call


@operation(
    gives={JSON: "health", "text/plain": None},
    means={200: "the service works; without `Accept: application/json` the answer is the text OK", 204: "the same, to HEAD"},
)
def show(call: Call) -> Response:
    """Answers whether the database and the stores answer. Whoever asks need not be known."""
    with call.service.database.read() as connection:
        connection.exec_driver_sql("SELECT 1")
    for store in call.service.stores.values():
        store.free_bytes()
    if call.request.method == "HEAD":
        return empty_answer()
    if (call.header("accept") or "").startswith("application/json"):
        return document_answer({"detailed": False, "reasons": ["OK"]})
    return Response("OK", 200, None, "text/plain; charset=UTF-8")
