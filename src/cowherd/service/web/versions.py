"""Which versions of the Image API there are: the document that names them, and the part of a path that chooses one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.web.call import document_answer, empty_answer
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call

CURRENT = 18
_VERSIONS = tuple(range(CURRENT, -1, -1))
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
        return named(call)
    accept = call.header("accept") or ""
    if accept.startswith(_BY_MEDIA_TYPE):
        first, slash, rest = accept.removeprefix(_BY_MEDIA_TYPE), "/", path
    if first not in _SEGMENTS:
        if scope["method"] == "OPTIONS":
            return empty_answer(200)
        return offered(call)
    scope["path"] = f"/v2{slash}{rest.lstrip('/')}"
    return None


@operation(gives="versions")
def named(call: Call) -> Response:
    """Names the versions of the API, newest first."""
    return document_answer(document(call))


@operation(gives="versions", status=300, means={300: "as asked; so also for every path that begins with no version"})
def offered(call: Call) -> Response:
    """Offers the versions of the API, newest first."""
    return document_answer(document(call), 300)


def document(call: Call) -> dict[str, Any]:
    """Returns the document that names the versions, newest first."""
    link = {"rel": "self", "href": f"{base_url(call)}/v2/"}
    return {
        "versions": [
            {"id": f"v2.{minor}", "status": "CURRENT" if minor == CURRENT else "SUPPORTED", "links": [link]}
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


@operation(
    status=302,
    means={302: "the document of /v2 is that of /v2/, where nothing lies either"},
    sent={"Location": "the address with a slash"},
)
def redirect(call: Call) -> Response:
    """Leads from /v2 to /v2/, as Glance does; what lies there is no document either."""
    return empty_answer(302, {"Location": f"{base_url(call)}/v2/"})


ROUTES: list[Route] = [
    resource("/", GET=offered),
    resource("/versions", GET=named),
    resource("/v2", GET=redirect),
]
"""What is told of paths that name no resource. Of the first two the answer is given before routes are looked at."""
