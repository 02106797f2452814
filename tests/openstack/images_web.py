"""A web server on the loopback with two small images, for web-download and for locations."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cowherd import api

RAW, QCOW2 = "image.raw", "image.qcow2"
RAW_BYTES = 4 << 10


class _Quiet(SimpleHTTPRequestHandler):
    """Gives out files, and says nothing of it."""

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the requests out of the run's output."""


@contextlib.contextmanager
def images_web(folder: Path) -> Iterator[int]:
    """Serves image.raw and image.qcow2 from `folder`, where it makes them; yields the port."""
    folder.mkdir()
    (folder / RAW).write_bytes(bytes(range(256)) * (RAW_BYTES // 256))
    api.convert(folder / RAW, folder / QCOW2, target_format="qcow2")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
