"""The addresses of images that are read over HTTP."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from cowherd.paths import PathName

    ImageName: TypeAlias = "PathName | Url"
    """What names an image to read: the name of a file of this host, or an address."""

_SCHEMES = ("http://", "https://")


class Url:
    """The address of an image that is read over HTTP or HTTPS. Attribute: `address`, all of it, secrets included.

    Only code that opens an image makes a `Url`, from what a user typed. Text never counts as an address, so no name stored in an
    image leads into a network. A `Url` is no `os.PathLike`, so nothing takes it for the name of a file of this host.
    """

    __slots__ = ("address",)

    def __init__(self, address: str):
        self.address = address

    def __str__(self) -> str:
        """The address in printable form: without a user's name and password, and without a query, which may be a signature."""
        from urllib.parse import urlsplit

        try:
            parts = urlsplit(self.address)
            _ = parts.port  # only this parses the port
        except ValueError:  # any part may be secret
            return f"{self.scheme}://..."
        return f"{self.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{'?...' if parts.query else ''}"

    @property
    def scheme(self) -> str:
        """The protocol: "http" or "https"."""
        return self.address.partition("://")[0]

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)


def is_address(text: str) -> bool:
    """Whether QEMU would read an image of this name over HTTP or HTTPS."""
    return text.startswith(_SCHEMES)
