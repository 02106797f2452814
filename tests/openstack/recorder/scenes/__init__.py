"""What is asked, as data: one module a part of the API, each with its scenes in SCENES."""

from __future__ import annotations

from tests.openstack.recorder.request import Scene
from tests.openstack.recorder.scenes import (
    data,
    discovery,
    images,
    imports,
    lists,
    members,
    metadefs,
    patches,
    policy,
    routes,
    tags,
)

MODULES = (metadefs, discovery, routes, images, patches, lists, data, members, tags, imports, policy)
SCENES: tuple[Scene, ...] = tuple(scene for module in MODULES for scene in module.SCENES)
