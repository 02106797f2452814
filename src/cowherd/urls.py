"""The addresses of images that are read over HTTP."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from cowherd.paths import PathName

    ImageName: TypeAlias = "PathName | Url"
    """What an image to be read is opened by: the name of a file of this host, or an address."""

_SCHEMES = ("http://", "https://")


class Url:
    """The address of an image that is read over HTTP or HTTPS. Attribute: `address`, all of it, with what is secret.

    Only somebody who opens an image makes one, of what a user typed: text is never taken for an address, so that no name stored
    in an image leads into a network. It is no `os.PathLike`: nothing takes it for the name of a file of this host.
    """

    __slots__ = ("address",)

    def __init__(self, address: str):
        self.address = address

    def __str__(self) -> str:
        """The address as it may be printed: without a user's name and password, and without a query, which may be a signature."""
        from urllib.parse import urlsplit

        try:
            parts = urlsplit(self.address)
            _ = parts.port  # it is taken apart only now
        except ValueError:  # nobody knows which part is secret
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
    """Whether QEMU would read an image of that name over HTTP or HTTPS."""
    return text.startswith(_SCHEMES)
