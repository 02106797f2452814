"""The service as a process, on a disk that is really full."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.load.process import process
from tests.service.web.images.test_staging import OCTETS

MIB = 1 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory, of 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this user may not mount anything")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_is_told_and_all_is_well_when_there_is_room_again(small: Path):
    with process(small, 1) as service:
        service.start()
        client = service.client()
        images = [f"/v2/images/{client.create(disk_format='raw', container_format='bare')['id']}" for _ in range(2)]
        assert client.ask("PUT", f"{images[0]}/file", b"kept", **OCTETS).status == 204
        for length in ({"content_length": str(12 * MIB)}, {}):
            body = iter([os.urandom(MIB)] * 12) if not length else os.urandom(12 * MIB)
            assert client.ask("PUT", f"{images[1]}/file", body, **OCTETS).status == 413
            assert client.get(images[1]).json["status"] == "queued"
        fill(small / "filler")
        statuses = {client.ask("POST", "/v2/images", {"name": "x" * 200}).status for _ in range(100)}
        assert statuses <= {201, 503}
        assert 503 in statuses
        assert client.get(f"{images[0]}/file").body == b"kept"
        assert client.get("/v2/images").status == 200
        (small / "filler").unlink()
        assert client.ask("PUT", f"{images[1]}/file", b"again", **OCTETS).status == 204
        assert client.get(f"{images[1]}/file").body == b"again"
        assert "Traceback" not in service.log()


def fill(path: Path) -> None:
    """Writes until nothing more fits."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):  # which says that there is no space left
        while True:
            file.write(bytes(4096))
