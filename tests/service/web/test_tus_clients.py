"""The public clients of the protocol tus come through fifty broken connections: Python's, and the one in JavaScript."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cowherd.service.web import uploads as web
from tests.service.web.breaking import Breaking
from tests.service.web.test_uploads import DATA, begun, content, new_image

BREAKS, MOST_BYTES = 50, 50_000
MODULES = Path(os.environ.get("COWHERD_TUS", Path(__file__).parents[3] / ".venv" / "tus")) / "node_modules"
SCRIPT = Path(__file__).with_name("tus_upload.cjs")
needs_javascript = pytest.mark.skipif(
    not (MODULES / "tus-js-client").exists() or shutil.which("node") is None, reason="'make tus' installs the client"
)


@pytest.mark.parametrize("checked", [False, True])
def test_the_client_for_python_comes_through_fifty_broken_connections(client, checked):
    tusclient = pytest.importorskip("tusclient.client", reason="pip install tuspy")
    image_id = new_image(client)
    with contextlib.closing(Breaking(client.port, 0, MOST_BYTES, seed=2)) as proxy:
        asked = tusclient.TusClient(f"http://127.0.0.1:{proxy.port}{web.PATH}")
        uploader = asked.uploader(
            file_stream=io.BytesIO(DATA),  # it closes no file that it opens
            metadata={"image_id": image_id},
            chunk_size=50_000,
            retries=200,
            retry_delay=0.01,
            upload_checksum=checked,
        )
        uploader.set_url(uploader.create_url())
        proxy.left = BREAKS
        uploader.upload()
        assert proxy.left == 0
    assert content(client, image_id) == DATA


@needs_javascript
@pytest.mark.parametrize("chunk_bytes", [50_000, 1_000_000])
def test_the_client_for_javascript_comes_through_fifty_broken_connections(client, tmp_path, chunk_bytes):
    image_id = new_image(client)
    path = begun(client, image_id)
    (tmp_path / "disk.raw").write_bytes(DATA)
    with contextlib.closing(Breaking(client.port, BREAKS, MOST_BYTES, seed=3)) as proxy:
        url = f"http://127.0.0.1:{proxy.port}{path}"
        command = ["node", SCRIPT, url, tmp_path / "disk.raw", str(chunk_bytes)]
        done = subprocess.run(
            command, env={**os.environ, "NODE_PATH": str(MODULES)}, capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert proxy.left == 0
    assert content(client, image_id) == DATA
