"""Who may do what with images of each visibility."""

from __future__ import annotations

from tests.openstack.recorder.request import Request, Scene, create, delete, get, patch, post, put, unrecorded, upload

_A = "/v2/images/{a}"
_EVERYBODY = ("admin", "member", "reader", "alt", "service", "nobody")


def _everything(visibility: str, who: str) -> list[Request]:
    """All that `who` can ask of an image of the member's project (public ones are made by the administrator for it)."""
    note = visibility
    owner = "admin" if visibility == "public" else "member"
    return [
        *unrecorded(create("a", who=owner, visibility=visibility, owner="{project}"), upload("a")),
        get(_A, who, note=note),
        get(f"{_A}/file", who, note=note),
        patch(_A, [{"op": "replace", "path": "/name", "value": "n"}], who, note=note),
        patch(_A, [{"op": "add", "path": "/colour", "value": "n"}], who, note=note),
        patch(_A, [{"op": "replace", "path": "/visibility", "value": "public"}], who, note=note),
        put(f"{_A}/tags/t", who=who, note=note),
        get(f"{_A}/members", who, note=note),
        post(f"{_A}/members", {"member": "m"}, who, note=note),
        post(f"{_A}/actions/deactivate", who=who, note=note),
        get(f"{_A}/file", who, note=f"{note}, deactivated"),
        post(f"{_A}/actions/reactivate", who=who, note=note),
        get(f"{_A}/tasks", who, note=note),
        get(f"{_A}/locations", who, note=note),
        delete("/v2/stores/cheap/{a}", who, note=note),
        delete(_A, who, note=note),
    ]


SCENES = tuple(
    Scene(f"policy {visibility}", [request for who in _EVERYBODY for request in _everything(visibility, who)])
    for visibility in ("private", "shared", "community", "public")
)
