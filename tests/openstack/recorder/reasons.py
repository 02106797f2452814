"""Differences from Glance that are meant: each with its reason, which the documentation repeats."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tests.openstack.recorder.compare import Difference, table


class Reason(NamedTuple):
    """Why answers differ, and which.

    `part`, `title`: patterns, the first for the whole part. `glance`, `ours`: what stands there, where that matters.
    """

    why: str
    part: str
    title: str = ""
    glance: tuple[object, ...] = ()
    ours: tuple[object, ...] = ()


_ABSENT = ("(absent)",)
_NOT_BEGUN = "Glance's download had not begun ten seconds after it was asked for; ours was done."
_AFTER_BROKEN, _AFTER_GPT = r"upload formats: GET .*\(after qcow2 header( as raw)?\)", r"upload formats: GET .*\(after gpt\)"
_DOWNLOADED = "^web-download: GET /v2/images/{a}$"

REASONS = (
    Reason(
        "Every answer names its request, also those that Glance gives before it has looked at the request.",
        "header x-openstack-request-id",
        glance=_ABSENT,
    ),
    Reason(
        "What was uploaded can be fetched in parts, and need not be fetched again: Glance says nothing of that.",
        "header (accept-ranges|etag|last-modified|content-digest|vary|cache-control|content-range)",
        glance=_ABSENT,
    ),
    Reason("The length of every body is said.", "header content-length", glance=_ABSENT),
    Reason("An answer without a body has neither a length nor a type.", "header content-(length|type)", ours=_ABSENT),
    Reason("Without keystone the challenge names none.", "header www-authenticate", ours=("Token",)),
    Reason("Glance fails on the request.", "status", glance=(0, 500), ours=(200, 204, 400, 404, 431)),
    Reason(
        "HEAD and If-None-Match save a download.", "status", "HEAD /v2/images/{a}/file|If-None-Match", (200, 405), (200, 204, 304)
    ),
    Reason("HEAD is among the methods of a file.", "header allow", "/v2/images/{a}/file", ("GET, PUT",), ("GET, HEAD, PUT",)),
    Reason("Why an image has no content is said in its record.", r"body\.cowherd_reason", glance=_ABSENT),
    Reason(
        "Nothing is known of refused content: Glance keeps its digests and the name of its store.",
        r"body\.(checksum|os_hash_algo|os_hash_value|stores|size|virtual_size|direct_url|locations)",
        r"upload formats: GET .*\(after ",
        ours=(None, "(absent)", []),
    ),
    Reason(
        "Where content lies is told to the image's own project.",
        r"body\.(direct_url|locations)",
        r"policy (community|public): GET .* as alt",
        ours=("(absent)", []),
    ),
    Reason(
        "Links to pages keep a parameter that was given several times; Glance keeps its last value only, and gives another page.",
        r"body\.(first|next)",
        r"[?&](\w+)=[^&]*&(.*&)?\1=",
    ),
    Reason(
        "A NUL is no character of a name: PostgreSQL could not store it.", "status", r"%00|\\u0000", (200, 201, 204), (400, 404)
    ),
    Reason(
        "A name of more than 255 characters is refused where it is changed, as where it is made.",
        "status",
        '"/?x{60}',
        (200,),
        (400,),
    ),
    Reason("A name that long was refused.", r"body\.x{80,}", ours=_ABSENT),
    Reason("Stores for staging and for tasks are none for images.", "header openstack-image-store-ids", ours=("cheap,fast,web",)),
    Reason("All methods of locations are named.", "header allow", "/v2/images/{a}/locations", ("POST",), ("GET, POST",)),
    Reason(
        "A task goes on a moment after its image is active.", r"body\.(os_glance_\w+|locations|stores)", "(stage|import): GET"
    ),
    Reason("A NUL is in no name.", r"body\.namespaces", "^namespaces: GET /v2/metadefs/namespaces as admin$"),
    Reason("A NUL is no tag, and a tag is what was written: Glance decodes it twice.", r"body\.tags\.\d+", "tags: GET"),
    Reason("OPTIONS names the methods.", "header allow", "OPTIONS", _ABSENT),
    Reason(
        "There is a kind of task beyond Glance's, and no owner of a task where nobody is asked who they are: the schema says so.",
        r"body\.properties\.(tasks\.items\.properties\.)?(owner\.type|type\.enum)",
        "schemas: GET /v2/schemas/tasks?$",
    ),
    Reason("What is no method of HTTP ends at the parser.", "status", "FETCH", (405,), (400,)),
    Reason("An id ends where it ends.", "status", "%0a", (200,), (404,)),
    Reason("What only the service says of an image is read-only.", "status", 'POST .*"(os_hash_|cowherd_)', (201,), (403,)),
    Reason("What only the service says of an image is read-only.", "status", 'PATCH .*"/stores"', (200,), (403,)),
    Reason("What is refused changes nothing: Glance changes the owner all the same.", r"status|body\.owner", "patch owner: GET"),
    Reason(
        "Of a parameter that was given several times the last one counts; Glance lists nothing.",
        r"body\.images",
        r"[?&](\w+)=[^&]*&(.*&)?\1=",
        ([],),
    ),
    Reason("A broken image is refused.", "status", r"upload formats: PUT .*\(qcow2 header( as raw)?\)", (204,), (415,)),
    Reason("A broken image is refused.", r"body\.status", _AFTER_BROKEN, ("active",), ("queued",)),
    Reason("A raw disk may begin with a boot record.", "status", r"upload formats: PUT .*\(gpt", (415,), (204,)),
    Reason(
        "A raw disk may begin with a boot record.",
        r"body\.(virtual_)?size",
        _AFTER_GPT,
        (None,),
        (1024,),
    ),
    Reason(
        "A raw disk may begin with a boot record.",
        r"body\.status",
        _AFTER_GPT,
        ("queued",),
        ("active",),
    ),
    Reason("The last 0 bytes are no range (RFC 9110).", "status", "bytes=-0", (206,), (416,)),
    Reason("A member is a text of at most 255 characters.", "status", "member bodies: POST", (200,), (400,)),
    Reason("A member is a text of at most 255 characters.", r"body\.members", "member bodies: GET"),
    Reason(
        "Bytes are stored once: an image is in every store that has them.",
        r"body\.stores",
        "",
        ("cheap", "fast"),
        ("cheap,fast",),
    ),
    Reason(
        "Bytes are stored once: an image is in every store that has them.",
        r"body\.locations|body",
        ours=([{"url": "<file>", "metadata": {"store": store}} for store in ("cheap", "fast")],),
    ),
    Reason(
        "Bytes are stored once: an image is in every store that has them.", "status", "DELETE /v2/stores/", (403,), (204, 404)
    ),
    Reason("A task is done sooner.", r"body\.(os_glance_\w+|stores)", "import: GET"),
    Reason("A task is done sooner.", r"body\.os_glance_import_task", "web-download: GET", ("<uuid>",), _ABSENT),
    Reason("A task is done sooner.", r"body\.os_glance_(importing_to_stores|failed_import)", _DOWNLOADED, _ABSENT, ("",)),
    Reason("What was refused has made no task.", r"body\.tasks", "^tasks: GET /v2/tasks as admin$"),
    Reason(
        "Nothing can be copied to a store of addresses on the web.",
        "status",
        r"stores: POST .*copy-image.*\[\"web\"\]",
        (202,),
        (409,),
    ),
    Reason(
        "Bytes are stored once: an image is in every store that has them.",
        "status",
        r"stores: POST .*copy-image.*\[\"fast\"\]",
        (409,),
        (400,),
    ),
    Reason(
        "Nothing can be copied to a store of addresses on the web.",
        r"body\.os_glance_\w+",
        r"stores: GET .*\(copied",
        ("web", ""),
        _ABSENT,
    ),
    Reason(
        "Only the port that is allowed may be asked, and the request says so; Glance's task fails.",
        "status",
        "web-download: POST .*https://127.0.0.1/x",
        (202,),
        (400,),
    ),
    Reason(_NOT_BEGUN, r"body\.status", _DOWNLOADED, ("queued",), ("active",)),
    Reason(
        _NOT_BEGUN,
        r"body\.(checksum|os_hash_algo|os_hash_value|size|virtual_size|direct_url|stores|locations)",
        _DOWNLOADED,
        (None, "(absent)", []),
    ),
    Reason(_NOT_BEGUN, "status", "web-download: GET /v2/images/{a}/file", (204,), (200,)),
    Reason(_NOT_BEGUN, r"body\.tasks\.0\.status", "web-download: GET /v2/images/{a}/tasks", ("pending",), ("success",)),
    Reason(_NOT_BEGUN, r"body\.tasks\.0\.(result|expires_at)", "web-download: GET /v2/images/{a}/tasks", (None,)),
    Reason("A store is what it is.", r"body\.stores\.0\.(weight|properties\.\w+)", "info: GET /v2/info/stores/detail"),
    Reason("Locations stay in the order that they were given.", r"body\.(locations\.)?\d\.url", "patch locations: GET"),
    Reason(
        "The content at a location is hashed before its image is active, not after.",
        r"body\.(checksum|os_hash_\w+|os_glance_import_task)",
        "^locations: GET",
    ),
    Reason("Where somebody sees no image, there is none to be refused.", "status", r"policy .* as service", (403,), (404,)),
    Reason("Characters outside of the basic plane are characters.", "status", r"\\ud83d\\udc02", (400,), (201,)),
    Reason("A document may come in chunks.", "status", "Transfer-Encoding: chunked", (400,), (201,)),
)


def reason_for(difference: Difference) -> Reason | None:
    """Returns the reason for a difference, None if nobody has given one."""
    return next((reason for reason in REASONS if _fits(reason, difference)), None)


def _fits(reason: Reason, difference: Difference) -> bool:
    if not re.fullmatch(reason.part, difference.part) or not re.search(reason.title, difference.title):
        return False
    return (not reason.glance or difference.glance in reason.glance) and (not reason.ours or difference.ours in reason.ours)


def report(found: Sequence[Difference]) -> tuple[str, bool]:
    """Returns what to print of differences, and whether each has a reason. Those that have one are only counted."""
    counts = Counter(reason.why for one in found if (reason := reason_for(one)))
    unexplained = [one for one in found if reason_for(one) is None]
    answers = len({one.title for one in unexplained})
    lines = [f"{count} times: {why}" for why, count in counts.most_common()]
    lines += [table(unexplained), f"{len(unexplained)} differences without a reason, in {answers} answers"]
    return "\n".join(filter(None, lines)), not unexplained
