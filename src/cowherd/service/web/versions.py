"""Which versions of the Image API there are: the document that names them, and the part of a path that chooses one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.web.call import document_answer, empty_answer

if TYPE_CHECKING:
    from starlette.responses import Response

    from cowherd.service.web.call import Call

_CURRENT = 18
_VERSIONS = tuple(range(_CURRENT, -1, -1))
_SEGMENTS = frozenset(("v2", *(f"v2.{minor}" for minor in _VERSIONS)))
_BY_MEDIA_TYPE = "application/vnd.openstack.images-"
_OF_ANOTHER_API = ("/healthcheck", "/metrics", "/cowherd")


def answer(call: Call) -> Response | None:
    """Returns the document of versions if the request asks for it, or for a version that there is not.

    Otherwise the request's path is made to begin with /v2, and nothing is returned.
    """
    scope = call.request.scope
    path: str = scope["path"]
    if any(path == other or path.startswith(other + "/") for other in _OF_ANOTHER_API):
        return None
    first, slash, rest = path.lstrip("/").partition("/")
    if first == "versions":
        return document_answer(document(call))
    accept = call.header("accept") or ""
    if accept.startswith(_BY_MEDIA_TYPE):
        first, slash, rest = accept.removeprefix(_BY_MEDIA_TYPE), "/", path
    if first not in _SEGMENTS:
        if scope["method"] == "OPTIONS":
            return empty_answer(200)
        return document_answer(document(call), 300)
    scope["path"] = f"/v2{slash}{rest.lstrip('/')}"
    return None


def document(call: Call) -> dict[str, Any]:
    """Returns the document that names the versions, newest first."""
    link = {"rel": "self", "href": f"{base_url(call)}/v2/"}
    return {
        "versions": [
            {"id": f"v2.{minor}", "status": "CURRENT" if minor == _CURRENT else "SUPPORTED", "links": [link]}
            for minor in _VERSIONS
        ]
    }


def base_url(call: Call) -> str:
    """Returns the address under which the client knows the service, without a slash at the end."""
    configured = call.service.settings.public_endpoint
    if configured:
        return configured.rstrip("/")
    host = call.header("host") or "localhost"
    return f"{call.request.scope['scheme']}://{host}"


def redirect(call: Call) -> Response:
    """Leads from /v2 to /v2/, as Glance does; what lies there is no document either."""
    return empty_answer(302, {"Location": f"{base_url(call)}/v2/"})
