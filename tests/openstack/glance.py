"""A real Glance, set up to answer all that it can: two file stores, one of other web servers' images, the cache, all imports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.openstack.identity import PASSWORD, Identity
from tests.openstack.peers import Peers
from tests.openstack.processes import run
from tests.openstack.uwsgi import let_readers_pass, uwsgi

# An image's stores are listed by weight, and tempest waits until they are listed by name: the heavier one comes first in both.
_SETTINGS = """\
[DEFAULT]
log_file = {folder}/glance-service.log
enabled_backends = cheap:file, fast:file, web:http
enabled_import_methods = [glance-direct,web-download,copy-image,glance-download]
show_multiple_locations = true
show_image_direct_url = true
image_cache_dir = {folder}/cache
image_cache_driver = centralized_db
worker_self_reference_url = http://127.0.0.1:{port}
[database]
connection = sqlite:///{folder}/glance.db?timeout=60
[keystone_authtoken]
auth_url = {identity}
www_authenticate_uri = {identity}
auth_type = password
username = glance
password = {password}
project_name = service
user_domain_id = default
project_domain_id = default
service_token_roles = service
service_token_roles_required = true
[paste_deploy]
flavor = keystone+cachemanagement
config_file = {paste}
[oslo_policy]
enforce_scope = true
enforce_new_defaults = true
[glance_store]
default_backend = cheap
[cheap]
filesystem_store_datadir = {folder}/cheap
store_description = the first of two
weight = 200
[fast]
filesystem_store_datadir = {folder}/fast
weight = 100
[web]
store_description = on other web servers
[os_glance_staging_store]
filesystem_store_datadir = {folder}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {folder}/tasks
[import_filtering_opts]
allowed_hosts = [127.0.0.1]
allowed_ports = [{web_port},{port}]
[image_format]
require_image_format_match = {enforced}
"""


@contextlib.contextmanager
def glance(peers: Peers, folder: Path, port: int, identity: Identity, web_port: int, *, enforced: bool = True) -> Iterator[str]:
    """Starts Glance on a new database; yields its URL. It may fetch images from `web_port` on the loopback, and from itself."""
    for name in ("cheap", "fast", "staging", "tasks", "cache", "settings"):
        (folder / name).mkdir(parents=True)
    settings = _SETTINGS.format(
        folder=folder,
        port=port,
        identity=identity.url,
        password=PASSWORD,
        paste=peers.root / "etc/glance/glance-api-paste.ini",
        web_port=web_port,
        enforced=str(enforced).lower(),
    )
    (folder / "settings" / "glance-api.conf").write_text(settings)
    manage = [peers.program("glance-manage"), "--config-file", folder / "settings" / "glance-api.conf"]
    run([*manage, "db_sync"], peers.environment(folder), folder / "glance-manage.log")
    let_readers_pass(folder / "glance.db")
    started = uwsgi(
        peers,
        folder,
        "glance",
        "glance.wsgi.api:application",
        port,
        processes=2,
        threads=4,
        OS_GLANCE_CONFIG_DIR=folder / "settings",
    )
    with started as url:
        yield url
