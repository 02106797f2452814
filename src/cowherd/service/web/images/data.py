"""The content of an image: its routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.service.web.images.download import download
from cowherd.service.web.images.upload import upload
from cowherd.service.web.routing import resource

if TYPE_CHECKING:
    from starlette.routing import Route

ROUTES: list[Route] = [
    resource("/v2/images/{image_id}/file", GET=download, HEAD=download, PUT=upload),
]
