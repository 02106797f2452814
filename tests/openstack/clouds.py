"""What the suites are told of the clouds: clouds.yaml as devstack writes it, and tempest.conf."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.openstack.identity import PASSWORD, REGION, Identity

_TEMPEST = """\
[DEFAULT]
log_file = {folder}/tempest.log
[oslo_concurrency]
lock_path = {folder}/locks
[auth]
use_dynamic_credentials = true
admin_username = admin
admin_password = {password}
admin_project_name = admin
admin_domain_name = Default
[identity]
uri_v3 = {identity}
auth_version = v3
region = {region}
default_domain_id = default
[service_available]
glance = true
nova = false
neutron = false
cinder = false
swift = false
horizon = false
[image]
region = {region}
http_image = http://127.0.0.1:{web_port}/image.raw
http_qcow2_image = http://127.0.0.1:{web_port}/image.qcow2
image_caching_enabled = true
[image-feature-enabled]
manage_locations = true
http_store_enabled = true
do_secure_hash = true
store_weight_enabled = true
image_format_enforcement = {enforced}
[enforce_scope]
glance = true
"""


def write_tempest(folder: Path, identity: Identity, web_port: int, *, enforced: bool) -> Path:
    """Writes tempest.conf into `folder`, and returns its path."""
    (folder / "locks").mkdir()
    path = folder / "tempest.conf"
    path.write_text(
        _TEMPEST.format(
            folder=folder,
            password=PASSWORD,
            identity=identity.url,
            region=REGION,
            web_port=web_port,
            enforced=str(enforced).lower(),
        )
    )
    return path


def write_clouds(folder: Path, identity: Identity) -> Path:
    """Writes clouds.yaml (as JSON, which is YAML) into `folder`, and returns its path."""
    projects = {"devstack": ("demo", "demo"), "devstack-alt": ("alt_demo", "alt_demo"), "devstack-admin": ("admin", "admin")}
    clouds = {
        name: _cloud(identity, user, {"project_name": project, "project_domain_id": "default"})
        for name, (user, project) in projects.items()
    }
    clouds["devstack-system-admin"] = _cloud(identity, "admin", {"system_scope": "all"})
    path = folder / "clouds.yaml"
    path.write_text(json.dumps({"clouds": clouds}, indent=1))
    return path


def _cloud(identity: Identity, user: str, scope: dict[str, str]) -> dict[str, Any]:
    auth = {"auth_url": identity.url, "username": user, "password": PASSWORD, "user_domain_id": "default", **scope}
    return {"auth": auth, "region_name": REGION, "identity_api_version": "3"}
