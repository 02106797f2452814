"""All routes of the service, in the order in which they are tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.service.web import cache, health, info, metrics, openapi, stores, tasks, uploads, versions
from cowherd.service.web.images import actions, data, lineage, locations, members, records, staging, tags
from cowherd.service.web.metadefs import namespaces
from cowherd.service.web.page import routes as page
from cowherd.service.web.routing import resource
from cowherd.service.web.schemas import routes as schemas

if TYPE_CHECKING:
    from starlette.routing import Route

ROUTES: list[Route] = [
    resource("/healthcheck", GET=health.show, HEAD=health.show),
    *metrics.ROUTES,
    *versions.ROUTES,
    *records.ROUTES,
    *data.ROUTES,
    *staging.ROUTES,
    *tags.ROUTES,
    *actions.ROUTES,
    *locations.ROUTES,
    *members.ROUTES,
    *lineage.ROUTES,
    *namespaces.ROUTES,
    *uploads.ROUTES,
    *openapi.ROUTES,
    *tasks.ROUTES,
    *stores.ROUTES,
    *info.ROUTES,
    *cache.ROUTES,
    *schemas.ROUTES,
    *page.ROUTES,
]
