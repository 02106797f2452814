"""Images of other image services, known by their regions: records and content are read with the token of who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from cowherd.errors import CowherdError
from cowherd.service.tasks.addresses import Addresses, port_of
from cowherd.service.tasks.fetching import FetchFailed, fetch
from cowherd.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from cowherd.service.tasks.fetching import Fetched

    EndpointOf = Callable[[str, str, str], str]

_FORMATS = ("disk_format", "container_format")
_TAKEN_OVER = ("hw_", "trait:", "os_distro", "os_secure_boot", "os_type")
"""How the names of the properties begin that say what a machine needs to run the image."""
_MOST_RECORD_BYTES = 4 << 20


class RegionUnknown(CowherdError):
    """No image service is known for `region` and `interface`."""

    def __init__(self, region: str, interface: str):
        super().__init__(
            f"No image service is known in the region {printable(region)} ({printable(interface)}). Name a region of the catalog"
        )
        self.region, self.interface = region, interface


class TokenGone(CowherdError):
    """The token with which another service was to be asked is not known any more."""

    def __str__(self) -> str:
        return "the token of who asked for the import is gone; import the image again"


@dataclass(frozen=True)
class RemoteImage:
    """The image `image_id` of another service at `endpoint`, to be read with `token`."""

    endpoint: str
    image_id: str
    token: str

    def record(self) -> dict[str, Any]:
        """Returns the image's record. Raises `FetchFailed`."""
        with self._fetch("") as fetched:
            if fetched.length is None or fetched.length > _MOST_RECORD_BYTES:
                raise FetchFailed(self._url, "its answer is no record of an image")
            text = b"".join(fetched.blocks())
        try:
            return msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise FetchFailed(self._url, "its answer is no record of an image") from error

    def content(self) -> AbstractContextManager[Fetched]:
        """Opens the image's content. Raises `FetchFailed`."""
        return self._fetch("/file")

    @property
    def _url(self) -> str:
        return f"{self.endpoint.rstrip('/')}/v2/images/{self.image_id}"

    def _fetch(self, ending: str) -> AbstractContextManager[Fetched]:
        parts = urlsplit(self.endpoint)
        # The administrator says where the service is, so it may be asked wherever that is.
        shown = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        allowed = Addresses((f"{shown}:{port_of(parts)}",))
        return fetch(self._url + ending, allowed, {"X-Auth-Token": self.token})


def taken_over(record: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Returns what an image takes over from the record of another one: its formats, and properties."""
    formats = {name: record[name] for name in _FORMATS if isinstance(record.get(name), str)}
    texts = {name: value for name, value in record.items() if isinstance(value, str)}
    return formats, {name: value for name, value in texts.items() if name.startswith(_TAKEN_OVER)}
