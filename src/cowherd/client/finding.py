"""Finds out which service is meant, and who asks: by an address, or as OpenStack's own clients do (clouds.yaml, OS_*).

openstacksdk is asked where it is installed; otherwise passwords, application credentials and tokens of Keystone v3 are known.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cowherd.client.connection import UNIX, Service
from cowherd.client.faults import NoService, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "COWHERD_SERVICE"
_FILES = ("clouds.yaml", "clouds.yml")
_AUTH = (
    *("auth_url", "username", "user_id", "password", "project_name", "project_id", "token", "endpoint"),
    *("user_domain_name", "user_domain_id", "project_domain_name", "project_domain_id"),
    *("application_credential_id", "application_credential_name", "application_credential_secret"),
)
_GIVEN_TOKENS = ("none", "admin_token", "token_endpoint")


def find_service(to: str | None = None, environment: Mapping[str, str] = os.environ) -> Service:
    """Returns the service that `to` names, or COWHERD_SERVICE, or that OpenStack's settings lead to.

    A service that is named gets the token of OS_TOKEN, or one of OpenStack's settings if it asks for one. Raises `NoService`,
    `InvalidRequest`, `ServiceUnreachable`, `ServiceRefused`.
    """
    address = to or environment.get(VARIABLE)
    cloud = _cloud(environment)
    if address:
        new_token = (lambda: _session(cloud, environment)[0]) if cloud and "auth_url" in cloud["auth"] else None
        return Service(_written_out(address), environment.get("OS_TOKEN"), new_token)
    if not cloud:
        raise NoService("nothing says which image service is meant")
    token, endpoint = _session(cloud, environment)
    return Service(endpoint.rstrip("/").removesuffix("/v2"), token or None)


def _written_out(address: str) -> str:
    """Returns the whole of an address that a user may have shortened: a path is a socket's, a host alone is asked by HTTP."""
    if address.startswith(("/", "./", "../")):
        return UNIX + os.path.abspath(address)
    return address if "://" in address or address.startswith(UNIX) else f"http://{address}"


def _cloud(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Returns the settings of the cloud that OS_CLOUD names, or those of the OS_* variables; None if there are none."""
    name = environment.get("OS_CLOUD")
    if name:
        return _cloud_of_file(name, environment)
    auth = {key: environment[f"OS_{key.upper()}"] for key in _AUTH if environment.get(f"OS_{key.upper()}")}
    if environment.get("OS_PROJECT_NAME") is None and environment.get("OS_TENANT_NAME"):
        auth["project_name"] = environment["OS_TENANT_NAME"]
    if "auth_url" not in auth and "endpoint" not in auth:
        return None
    others = {key: environment.get(f"OS_{key.upper()}") for key in ("auth_type", "region_name", "interface")}
    override = environment.get("OS_IMAGE_ENDPOINT_OVERRIDE")
    return {"auth": auth, "image_endpoint_override": override, **{key: one for key, one in others.items() if one}}


def _cloud_of_file(name: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Returns the settings of a cloud from clouds.yaml, with the secrets of secure.yaml. Raises `NoService`."""
    if importlib.util.find_spec("yaml") is None:
        raise NoService("clouds.yaml is read with the package PyYAML, which is not installed (pip install PyYAML)")
    path = next((one for one in _places(environment) if one.is_file()), None)
    found = _read_clouds(path).get(name) if path else None
    if not isinstance(found, dict):
        raise NoService(f"no clouds.yaml names a cloud {name!a}, which OS_CLOUD asks for")
    assert path is not None
    secret = _read_clouds(path.with_name(path.name.replace("clouds", "secure"))).get(name) or {}
    return {**found, **secret, "auth": {**(found.get("auth") or {}), **(secret.get("auth") or {})}}


def _places(environment: Mapping[str, str]) -> list[Path]:
    """Returns where clouds.yaml may lie, in the order in which OpenStack's clients look."""
    named = environment.get("OS_CLIENT_CONFIG_FILE")
    folders = [Path(), Path("~/.config/openstack").expanduser(), Path("/etc/openstack")]
    return [*([Path(named)] if named else []), *(folder / name for folder in folders for name in _FILES)]


def _read_clouds(path: Path) -> dict[str, Any]:
    yaml = importlib.import_module("yaml")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise NoService(f"{path} can't be read: {error}") from error
    clouds = document.get("clouds") if isinstance(document, dict) else None
    return clouds if isinstance(clouds, dict) else {}


def _session(cloud: dict[str, Any], environment: Mapping[str, str]) -> tuple[str, str]:
    """Returns a token and the address of the image service. Raises `NoService`, `ServiceRefused`, `ServiceUnreachable`."""
    auth = cloud["auth"]
    override = cloud.get("image_endpoint_override") or auth.get("endpoint")
    if cloud.get("auth_type") in _GIVEN_TOKENS:
        if not override:
            raise NoService(f"the auth_type {cloud['auth_type']} needs an endpoint (OS_ENDPOINT)")
        return auth.get("token", ""), override
    if importlib.util.find_spec("openstack") is not None:
        return _session_of_sdk(cloud, environment)
    token, catalog = _authenticate(auth)
    return token, override or _endpoint(catalog, cloud)


def _session_of_sdk(cloud: dict[str, Any], environment: Mapping[str, str]) -> tuple[str, str]:
    openstack = importlib.import_module("openstack")
    try:
        connection = openstack.connect(cloud=environment.get("OS_CLOUD"))
        token = connection.session.get_token()
        return token, cloud.get("image_endpoint_override") or connection.image.get_endpoint()
    except Exception as error:  # it raises what its many plugins raise
        raise NoService(f"openstacksdk finds no image service: {error}") from error


def _authenticate(auth: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Returns a token of Keystone's, and the catalog that comes with it."""
    address = auth["auth_url"].rstrip("/")
    address = address if address.endswith("/v3") else f"{address}/v3"
    answer = Service(address).ask("POST", "/auth/tokens", {"auth": _credentials(auth)})
    if answer.status >= 400:
        raise refusal(answer.status, answer.body)
    try:
        return answer.headers["x-subject-token"], json.loads(answer.body)["token"].get("catalog") or []
    except (ValueError, KeyError, TypeError) as error:
        raise NoService(f"{address} is no identity service of version 3") from error


def _credentials(auth: dict[str, Any]) -> dict[str, Any]:
    """Returns what Keystone wants to know, by what is known. Raises `NoService` if that is not enough."""
    if "application_credential_secret" in auth:
        named = {"id": auth.get("application_credential_id"), "name": auth.get("application_credential_name")}
        credential = {"secret": auth["application_credential_secret"], **{key: one for key, one in named.items() if one}}
        if "id" not in credential:
            credential["user"] = _user(auth)
        return {"identity": {"methods": ["application_credential"], "application_credential": credential}}
    scope = _scope(auth)
    if "token" in auth:
        return {"identity": {"methods": ["token"], "token": {"id": auth["token"]}}, **scope}
    if "password" not in auth:
        raise NoService("there are no credentials: a password, a token or an application credential is needed")
    user = {**_user(auth), "password": auth["password"]}
    return {"identity": {"methods": ["password"], "password": {"user": user}}, **scope}


def _user(auth: dict[str, Any]) -> dict[str, Any]:
    if "user_id" in auth:
        return {"id": auth["user_id"]}
    return {"name": auth.get("username", ""), "domain": _domain(auth, "user")}


def _scope(auth: dict[str, Any]) -> dict[str, Any]:
    if "project_id" in auth:
        return {"scope": {"project": {"id": auth["project_id"]}}}
    if "project_name" in auth:
        return {"scope": {"project": {"name": auth["project_name"], "domain": _domain(auth, "project")}}}
    return {}


def _domain(auth: dict[str, Any], whose: str) -> dict[str, Any]:
    if f"{whose}_domain_id" in auth:
        return {"id": auth[f"{whose}_domain_id"]}
    name = auth.get(f"{whose}_domain_name")
    return {"name": name} if name else {"id": "default"}


def _endpoint(catalog: list[dict[str, Any]], cloud: dict[str, Any]) -> str:
    """Returns the address of the image service in a catalog. Raises `NoService`."""
    interface, region = cloud.get("interface") or "public", cloud.get("region_name")
    for entry in catalog:
        for one in entry.get("endpoints", ()) if entry.get("type") == "image" else ():
            if one.get("interface") == interface and region in (None, one.get("region_id"), one.get("region")):
                return str(one["url"])
    where = f" of region {region}" if region else ""
    raise NoService(f"the identity service knows no {interface} address{where} of an image service")
