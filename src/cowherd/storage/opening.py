"""Opens the file of an image, by its name or its address."""

from __future__ import annotations

from cowherd.errors import InvalidRequest
from cowherd.storage.hostfile import HostFile
from cowherd.text import printable
from cowherd.urls import Url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.storage.blocks import BlockFile
    from cowherd.urls import ImageName


def open_file(name: ImageName, *, writable: bool = False) -> BlockFile:
    """Opens a file of this host, without locks, or one on a web server, which can only be read.

    Raises `HostFileError`; its kind for servers is `RemoteFileError`.
    """
    if not isinstance(name, Url):
        return HostFile.open(name, writable=writable, lock=None)
    from cowherd.storage.httpfile import HttpFile  # it loads Python's http and ssl, which nothing else here needs

    return HttpFile.open(name, writable=writable)


def require_host(file: BlockFile) -> HostFile:
    """Returns the file of this host that `file` is. Raises `InvalidRequest` if it is not one."""
    if file.host is None:
        raise InvalidRequest(f"{printable(file.name)} is no file of this host")
    return file.host
