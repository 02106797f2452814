"""Locations: content that stays where it is on the web. It is read once, so that its size and its hashes are known."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cowherd.errors import CowherdError
from cowherd.service.intake.faults import TooLarge
from cowherd.service.intake.signatures import verifier_of
from cowherd.service.records.failures import queue_again
from cowherd.service.records.faults import ImageNotFound
from cowherd.service.records.images import change_status, read_image
from cowherd.service.records.states import ACTIVE, IMPORTING
from cowherd.service.tasks.addresses import Addresses
from cowherd.service.tasks.fetching import fetch

if TYPE_CHECKING:
    from cowherd.service.intake.signatures import Verifier
    from cowherd.service.records.database import Database
    from cowherd.service.records.tasks import Task

TYPE = "location_import"
"""The type of these tasks."""


class HashDiffers(CowherdError):
    """What lies at a location is not what was announced. Attributes: `url`, `algorithm`, `found` (hexadecimal digits)."""

    def __init__(self, url: str, algorithm: str, found: str):
        self.url, self.algorithm, self.found = url, algorithm, found

    def __str__(self) -> str:
        return f"what lies at {self.url} has the {self.algorithm} {self.found}, and another one was announced"


@dataclass(frozen=True)
class Locating:
    """Reads what lies at the locations of images. `algorithm` is that of `os_hash_algo`; an image may have `most_bytes`;
    `certificates` is the directory of those for signatures."""

    database: Database
    addresses: Addresses
    algorithm: str
    md5: bool
    most_bytes: int
    certificates: str

    def run(self, task: Task) -> dict[str, Any]:
        """Reads the content of one image, which is importing, and makes the image active with its hashes."""
        image_id, url, stated = task.image_id or "", task.input["url"], task.input["validation_data"]
        try:
            with self.database.read() as connection:
                verifier = verifier_of(read_image(connection, image_id).properties, self.certificates)
            facts = self._read(url, stated.get("os_hash_algo", self.algorithm), verifier)
            if stated and facts["os_hash_value"] != stated["os_hash_value"]:
                raise HashDiffers(url, facts["os_hash_algo"], facts["os_hash_value"])
            with self.database.write() as connection:
                change_status(connection, image_id, {IMPORTING}, ACTIVE, reason=None, **facts)
        except ImageNotFound:
            raise
        except Exception as error:
            reason = (
                str(error) if isinstance(error, CowherdError) else "An error of the service ended the import. Import it again"
            )
            with self.database.write() as connection:
                queue_again(connection, image_id, {IMPORTING}, reason)
            raise
        return {"image_id": image_id}

    def _read(self, url: str, algorithm: str, verifier: Verifier | None) -> dict[str, Any]:
        """Returns what the image's record says of the content. Raises `SignatureRefused`."""
        names = {algorithm, *(["md5"] if self.md5 else []), *([verifier.hash] if verifier else [])}
        size, hashing = 0, {name: hashlib.new(name, usedforsecurity=False) for name in names}
        with fetch(url, self.addresses) as fetched:
            for block in fetched.blocks():
                size += len(block)
                if size > self.most_bytes:
                    raise TooLarge(size, self.most_bytes)
                for one in hashing.values():
                    one.update(block)
        if verifier:
            verifier.verify(hashing[verifier.hash].digest())
        found = {"size": size, "os_hash_algo": algorithm, "os_hash_value": hashing[algorithm].hexdigest()}
        return {**found, "checksum": hashing["md5"].hexdigest() if self.md5 else None}
