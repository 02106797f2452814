"""What clients are told of every request by the protocol tus: its headers, and what its own statuses mean."""

from __future__ import annotations

VERSION = "1.0.0"
TUS = {"Tus-Resumable": VERSION}
EXPIRES = {"Upload-Expires": "when the upload ends if nothing comes"}
SHOWN = {
    **TUS,
    "Upload-Offset": "how many bytes are durable",
    "Upload-Length": "how many will be",
    "Upload-Metadata": "as it was given",
    **EXPIRES,
    "Cache-Control": "no-store",
}
"""The headers of an answer that shows an upload."""
STATUSES = {412: f"the header Tus-Resumable is not {VERSION}", 423: "another request is at the upload, and goes on"}
