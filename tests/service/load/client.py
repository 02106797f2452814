"""A client that makes, fills, reads, changes and deletes images, and keeps a ledger of what it was told."""

from __future__ import annotations

import base64
import http.client
import random
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from tests.service.load.contents import Content
from tests.service.load.ledger import ABSENT, ACTIVE, ARRIVING, COMING, QUEUED, STAGED, Held, State
from tests.service.web.running import Answer, Client

_OCTETS = {"content_type": "application/octet-stream"}
_TUS = {"tus_resumable": "1.0.0"}
_CHUNK = {**_TUS, "content_type": "application/offset+octet-stream"}
_UPLOADS = "/cowherd/v1/uploads"
_MOST_IMAGES = 12
_KINDS = ("create", "put", "refused", "stage", "import", "watch", "begin", "offset", "append", "read", "patch", "delete")
_GONE = (OSError, http.client.HTTPException)
"""What a client sees of a service that was killed."""


class Unexpected(Exception):
    """An answer that a sound service would not have given."""


@dataclass
class Gate:
    """Where the clients wait while the service is down, or is looked at."""

    clients: int
    client: Client | None = None
    ending: bool = False
    waiting: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def open(self, client: Client) -> None:
        """Lets the clients in."""
        with self.changed:
            self.client = client
            self.changed.notify_all()

    def close(self) -> None:
        """Lets nobody in any more, and waits until all are outside."""
        with self.changed:
            self.client = None
            self.changed.wait_for(lambda: self.waiting == self.clients)

    def end(self) -> None:
        """Sends all clients home."""
        with self.changed:
            self.ending = True
            self.changed.notify_all()

    def enter(self, dead: Client | None) -> Client | None:
        """Called by a client before each of its requests: waits until it may ask; returns None when it is to go home.

        `dead` is what it asked last, if that gave no answer.
        """
        with self.changed:
            self.waiting += 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.client not in (None, dead) or self.ending)
            self.waiting -= 1
            return None if self.ending else self.client


class LoadClient:
    """Works until it is sent home. `images` is its ledger, `done` counts what was acknowledged, `problems` what is wrong."""

    def __init__(self, gate: Gate, seed: int, sound: list[Content], refused: list[Content]):
        self._thread = threading.Thread(target=self._run, name=f"client-{seed}", daemon=True)
        self._gate, self._lot = gate, random.Random(seed)
        self._sound, self._refused = sound, refused
        self.images: dict[str, Held] = {}
        self.done = dict.fromkeys(_KINDS, 0)  # all at once, so that others may add them up meanwhile
        self.problems: list[str] = []
        self._client = Client(0)

    def start(self) -> None:
        """Sends it to work."""
        self._thread.start()

    def join(self) -> None:
        """Waits until it is home."""
        self._thread.join()

    def _run(self) -> None:
        dead = None
        while (client := self._gate.enter(dead)) is not None:
            self._client = client
            try:
                self._work()
            except _GONE:
                dead = client
            except Unexpected as error:
                self.problems.append(str(error))

    def _work(self) -> None:
        """Does one thing with one image, or makes a new one."""
        known = [one for one in self.images.values() if len(one.states) == 1]
        if not known or (len(known) < _MOST_IMAGES and self._lot.random() < 0.3):
            self._create()
            return
        held = self._lot.choice(known)
        self._lot.choice(self._actions(held))(held)

    def _actions(self, held: Held) -> list[Callable[[Held], None]]:
        following: dict[str, list[Callable[[Held], None]]] = {
            QUEUED: [self._put, self._put, self._stage, self._stage, self._begin, self._begin, self._put_refused],
            STAGED: [self._import],
            ARRIVING: [self._append, self._append, self._append],
            COMING: [self._watch],
            ACTIVE: [self._read, self._read, self._patch, self._delete],
        }
        return [*following[held.state.name], *([self._delete] if self._lot.random() < 0.1 else [])]

    def _ask(self, what: str, expected: int, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        answer = self._client.ask(method, path, body, **headers)
        if answer.status != expected:
            raise Unexpected(f"{what}: {method} {path} gave {answer.status}: {answer.body[:300]!r}")
        self.done[what] += 1
        return answer

    def _create(self) -> None:
        held = Held(str(uuid.uuid4()), self._lot.choice(self._sound).disk_format, {State(ABSENT), State(QUEUED)})
        self.images[held.id] = held
        document = {"id": held.id, "disk_format": held.disk_format, "container_format": "bare"}
        self._ask("create", 201, "POST", "/v2/images", document)
        held.know_state(State(QUEUED))

    def _content_for(self, held: Held) -> Content:
        return self._lot.choice([one for one in self._sound if one.disk_format == held.disk_format])

    def _put(self, held: Held) -> None:
        content = self._content_for(held)
        held.try_state(State(ACTIVE, content))
        self._ask("put", 204, "PUT", f"/v2/images/{held.id}/file", content.data, **_OCTETS)
        held.know_state(State(ACTIVE, content))

    def _put_refused(self, held: Held) -> None:
        if held.disk_format == "qcow2":
            bad = self._lot.choice(self._refused)
            self._ask("refused", 415, "PUT", f"/v2/images/{held.id}/file", bad.data, **_OCTETS)

    def _stage(self, held: Held) -> None:
        content = self._content_for(held)
        held.try_state(State(STAGED, content))
        self._ask("stage", 204, "PUT", f"/v2/images/{held.id}/stage", content.data, **_OCTETS)
        held.know_state(State(STAGED, content))

    def _import(self, held: Held) -> None:
        coming = State(COMING, held.state.content)
        held.try_state(coming)
        self._ask("import", 202, "POST", f"/v2/images/{held.id}/import", {"method": {"name": "glance-direct"}})
        held.know_state(coming)

    def _watch(self, held: Held) -> None:
        """Looks whether an import has come to its end."""
        status = self._ask("watch", 200, "GET", f"/v2/images/{held.id}").json["status"]
        if status == "active":
            held.know_state(State(ACTIVE, held.state.content))
        elif not held.state.fits(status):
            raise Unexpected(f"watch: image {held.id} is {status}, and its import was acknowledged")

    def _begin(self, held: Held) -> None:
        content = self._content_for(held)
        held.try_state(State(ARRIVING, content))
        metadata = f"image_id {base64.b64encode(held.id.encode()).decode()}"
        size = str(len(content.data))
        answer = self._ask("begin", 201, "POST", _UPLOADS, upload_length=size, upload_metadata=metadata, **_TUS)
        held.upload, held.offset = answer.headers["location"][answer.headers["location"].index(_UPLOADS) :], 0
        held.know_state(State(ARRIVING, content))

    def _append(self, held: Held) -> None:
        content = held.state.content
        if held.upload is None or content is None:  # the answer that named it was lost
            self._delete(held)
            return
        size = len(content.data)
        self._find_offset(held)
        end = min(size, held.offset + self._lot.randrange(1, 1 + max(size // 2, 100_000)))
        if end == size:
            held.try_state(State(ACTIVE, content))
        part = content.data[held.offset : end]
        self._ask("append", 204, "PATCH", held.upload, part, upload_offset=str(held.offset), **_CHUNK)
        held.offset = end
        if end == size:
            held.know_state(State(ACTIVE, content))

    def _find_offset(self, held: Held) -> None:
        """Asks where an upload goes on: never before what was acknowledged."""
        assert held.upload is not None
        told = int(self._ask("offset", 200, "HEAD", held.upload, **_TUS).headers["upload-offset"])
        if told < held.offset:
            raise Unexpected(f"offset: upload of {held.id} goes on at {told}, and {held.offset} were acknowledged")
        held.offset = told

    def _read(self, held: Held) -> None:
        content = held.state.content
        body = self._ask("read", 200, "GET", f"/v2/images/{held.id}/file").body
        if content is None or blake3(body).hexdigest() != content.digest:
            raise Unexpected(f"read: image {held.id} gave other bytes than were uploaded ({len(body)})")

    def _patch(self, held: Held) -> None:
        mark = self._lot.randbytes(4).hex()
        held.marks.add(mark)
        kind = "application/openstack-images-v2.1-json-patch"
        change = [{"op": "add", "path": "/mark", "value": mark}]
        self._ask("patch", 200, "PATCH", f"/v2/images/{held.id}", change, content_type=kind)
        held.marks = {mark}

    def _delete(self, held: Held) -> None:
        held.try_state(State(ABSENT))
        self._ask("delete", 204, "DELETE", f"/v2/images/{held.id}")
        held.know_state(State(ABSENT))
        del self.images[held.id]
