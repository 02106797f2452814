"""The routes of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.service.web.page import image, index
from cowherd.service.web.page.visitor import HOME, IMAGES
from cowherd.service.web.routing import resource

if TYPE_CHECKING:
    from starlette.routing import Route

ROUTES: list[Route] = [
    resource(HOME.rstrip("/"), GET=index.redirect, HEAD=index.redirect),
    resource(HOME, GET=index.show, HEAD=index.show),
    resource(f"{IMAGES}{{image_id}}", GET=image.show, HEAD=image.show),
]
