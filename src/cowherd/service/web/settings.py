"""What can be set about the service: one table of settings, read from a TOML file, from options and from KEY=VALUE words."""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.service.web.serving.sockets import is_loopback, split_address
from cowherd.sizes import SizeError, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

AUTHS = ("none", "tokens", "keystone")
RESOURCES = ("bytes", "images", "uploads")
HASHES = ("sha256", "sha512")
CONVERTING = ("raw", "qcow2")
CHANGED, ALWAYS = "changed", "always"
VERIFYING = (CHANGED, ALWAYS)


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Settings:
    """How the service is to be. Every field is a key of the file; `_` in a name may be written as `-`. Sizes are bytes."""

    data: str = _setting("", "the directory of the database and of the first store")
    listen: str = _setting("", "HOST:PORT to answer on; port 0 takes a free one")
    socket: str = _setting("", "the path of a socket to answer on, which only its owner may use (default: service.sock in data)")
    auth: str = _setting("none", f"who may ask: one of {', '.join(AUTHS)}")
    keystone: str = _setting("", "the address of the identity service, as in http://127.0.0.1:5000/v3")
    tokens: str = _setting("", "the file of hashed tokens (default: tokens in data)")
    stores: tuple[str, ...] = _setting((), "more stores, each as NAME=DIR; the first one is where uploads go")
    database: str = _setting("", "the address of the database, as SQLAlchemy writes it (default: SQLite in data)")
    workers: int = _setting(1, "how many processes answer")
    public_endpoint: str = _setting("", "the address under which clients know the service, where a proxy stands in front")
    require_format_match: bool = _setting(True, "refuse content that is not of the disk_format that its image states")
    hash_algorithm: str = _setting("sha512", f"the hash of os_hash_value: one of {', '.join(HASHES)}")
    md5: bool = _setting(True, "compute the checksum that older clients want")
    image_size_cap: int = _setting(1 << 40, "the largest content of an image")
    image_property_quota: int = _setting(128, "how many properties of its own an image may have")
    image_tag_quota: int = _setting(128, "how many tags an image may have")
    image_member_quota: int = _setting(128, "how many projects an image may be shared with")
    image_location_quota: int = _setting(10, "how many locations an image may have")
    quotas: tuple[str, ...] = _setting(
        (), "what projects may have of bytes, images, and uploads at once: each RESOURCE=NUMBER, or PROJECT:RESOURCE=NUMBER"
    )
    limit_param_default: int = _setting(25, "how many images a page has, unless the client says otherwise")
    api_limit_max: int = _setting(1000, "how many images a page has at most")
    import_methods: tuple[str, ...] = _setting(
        ("glance-direct", "web-download", "copy-image", "glance-download"), "the ways to import that are offered"
    )
    regions: tuple[str, ...] = _setting(
        (), "other image services to import from, each as REGION=URL (default: those of keystone's catalog)"
    )
    http_store: str = _setting(
        "", "the name of a read-only store of addresses on the web, which images then may have as locations (default: none)"
    )
    import_allowed: tuple[str, ...] = _setting(
        (), "addresses of this host or network that may be imported from, each HOST or HOST:PORT"
    )
    signatures_certificates: str = _setting(
        "", "the directory of the certificates with which signatures of images are verified, each file called by its UUID"
    )
    import_convert: str = _setting("", f"the format that imported images are converted to: {' or '.join(CONVERTING)}")

    verify_reads: str = _setting(
        CHANGED, "when content is verified before it is sent: changed (if its file is not as it was verified) or always"
    )
    scrub_rate: int = _setting(64 << 20, "how many bytes a second are read to verify what is stored; 0 for as many as possible")
    scrub_days: int = _setting(7, "after how many days what is stored is verified again")
    reap_after: int = _setting(60, "how many seconds the bytes of a deleted image stay")

    @property
    def database_url(self) -> str:
        """The address of the database."""
        return self.database or f"sqlite:///{os.path.join(self.data, 'records.sqlite')}"

    @property
    def socket_path(self) -> str:
        """The path of the socket, where the service listens on none of the network."""
        return self.socket or os.path.join(self.data, "service.sock")

    @property
    def tokens_path(self) -> str:
        """The file of hashed tokens."""
        return self.tokens or os.path.join(self.data, "tokens")

    @property
    def store_directories(self) -> dict[str, str]:
        """The directory of each store by its name, the first one for uploads."""
        named = dict(entry.split("=", 1) for entry in self.stores)
        return named or {"default": os.path.join(self.data, "store")}


def quotas_of(settings: Settings) -> dict[tuple[str | None, str], int]:
    """Returns what each project may have of each resource; None stands for all projects of which nothing else is said.

    Raises `InvalidRequest` for an entry that makes no sense.
    """
    found: dict[tuple[str | None, str], int] = {}
    for entry in settings.quotas:
        name, _, amount = entry.rpartition("=")
        project, _, resource = name.rpartition(":")
        try:
            found[project or None, resource] = parse_size(amount)
        except SizeError as error:
            raise InvalidRequest(f"{entry!a} is no quota; write it as in bytes=100G or demo:images=50") from error
        if resource not in RESOURCES:
            raise InvalidRequest(f"{entry!a}: a quota is of {', '.join(RESOURCES)}")
    return found


FIELDS = {one.name: one for one in fields(Settings)}


def read_settings(path: str | None, words: Sequence[str], options: Mapping[str, Any]) -> Settings:
    """Returns the settings of a TOML file, of KEY=VALUE `words` and of `options`; the later ones win.

    Raises `HostFileError` if the file can't be read, and `InvalidRequest` for what makes no sense, with the nearest right key.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values.update((_known(key, path), value) for key, value in _read_toml(path).items())
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InvalidRequest(f"{word!a} sets nothing; write it as in --set api_limit_max=500")
        values[_known(key, "--set")] = value
    values.update((key, value) for key, value in options.items() if value is not None)
    settings = Settings(**{key: _converted(key, value) for key, value in values.items()})
    _check(settings)
    return settings


def _read_toml(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return dict(_flattened(tomllib.load(file)))
    except OSError as error:
        raise HostFileError(path, "read", error) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} is no TOML: {error}") from error


def _flattened(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Gives the values of a table and of the tables in it; the name of an inner table comes before its keys, with a dot."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _known(key: str, where: str) -> str:
    name = key.strip().replace("-", "_").replace(".", "_")
    if name not in FIELDS:
        near = difflib.get_close_matches(name, FIELDS, 1, 0.0)
        raise InvalidRequest(f"{where}: there is no setting {key!a}; the nearest one is '{near[0]}'")
    return name


def _converted(key: str, value: Any) -> Any:
    """Returns a value as its setting holds it. Raises `InvalidRequest`."""
    kind = type(FIELDS[key].default)
    if kind is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if kind is int and isinstance(value, str):
        try:
            return parse_size(value)
        except SizeError as error:
            raise InvalidRequest(f"{key} is a number or a size as in 20G, and not {value!a}") from error
    if kind is tuple:
        value = tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else tuple(value)
        if all(isinstance(part, str) for part in value):
            return value
    elif type(value) is kind:
        return value
    raise InvalidRequest(f"{key} can't be {value!a}; it is a {kind.__name__}")


def _check(settings: Settings) -> None:
    if not settings.data:
        raise InvalidRequest("where are the data of the service? write it as in --data /var/lib/cowherd")
    choices = (("auth", AUTHS), ("hash_algorithm", HASHES), ("verify_reads", VERIFYING), ("import_convert", ("", *CONVERTING)))
    for name, allowed in choices:
        if getattr(settings, name) not in allowed:
            raise InvalidRequest(f"{name} can't be {getattr(settings, name)!a}; it is one of {', '.join(allowed)}")
    if settings.listen and settings.socket:
        raise InvalidRequest("a service listens on an address or on a socket, not on both: leave out --listen or --socket")
    if settings.workers < 1:
        raise InvalidRequest("workers can't be less than 1")
    quotas_of(settings)
    for entry in settings.regions:
        if not all(entry.partition("=")):
            raise InvalidRequest(f"{entry!a} is no region; write it as in north=http://images.north.example:9292")
    for entry in settings.stores:
        if not all(entry.partition("=")):
            raise InvalidRequest(f"{entry!a} is no store; write it as in fast=/srv/images")
    if settings.http_store in settings.store_directories:
        raise InvalidRequest(f"there are two stores {settings.http_store!a}; call one otherwise")
    if settings.listen and settings.auth == "none" and not is_loopback(split_address(settings.listen)[0]):
        raise InvalidRequest(f"everybody who reaches {settings.listen} could do anything: use --auth tokens or keystone there")
    if settings.auth == "keystone" and not settings.keystone:
        raise InvalidRequest("where is the identity service? write it as in --keystone http://127.0.0.1:5000/v3")
