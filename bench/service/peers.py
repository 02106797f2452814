"""The two services, each with new data in a folder, and what its processes cost."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.service.client import Client
from tests.openstack.peers import Peers
from tests.openstack.processes import free_port, run, server
from tests.openstack.uwsgi import let_readers_pass, uwsgi

GLANCE, COWHERD = "Glance", "cowherd"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_GLANCE_SETTINGS = """\
[DEFAULT]
log_file = {folder}/glance-service.log
enabled_backends = store:file
[database]
connection = sqlite:///{folder}/glance.db?timeout=60
[paste_deploy]
config_file = {paste}
[oslo_policy]
policy_file = {folder}/settings/policy.yaml
[glance_store]
default_backend = store
[store]
filesystem_store_datadir = {folder}/store
[os_glance_staging_store]
filesystem_store_datadir = {folder}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {folder}/tasks
"""
_OPEN = (
    "add_image",
    "get_image",
    "get_images",
    "upload_image",
    "download_image",
    "delete_image",
    "publicize_image",
    "modify_image",
)


@dataclass(frozen=True)
class Service:
    """A service that runs: `pid` is its first process, `folder` has its data, `started_in` are seconds.

    `idle` are the bytes of memory that it has after its first answer.
    """

    name: str
    client: Client
    pid: int
    folder: Path
    started_in: float
    idle: int

    def cpu(self) -> float:
        """Returns the seconds of CPU that all its processes have taken, those that have ended among them."""
        return sum(sum(map(int, fields[11:15])) for fields in map(_stat, _group(self.pid))) / _TICKS

    def memory(self) -> int:
        """Returns the bytes of memory that its processes hold, in sum."""
        return _memory(self.pid)

    def highest(self) -> int:
        """Returns the most bytes of memory that its first process ever held."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    def stored(self) -> int:
        """Returns the bytes that the files of its store take on the disk."""
        return sum(one.stat().st_blocks * 512 for one in (self.folder / "store").rglob("*") if one.is_file())


def _group(pid: int) -> list[int]:
    """Returns the processes of the group of one."""
    group = os.getpgid(pid)
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(int(name)) == group:
                found.append(int(name))
    return found


def _memory(pid: int) -> int:
    return sum(int(_stat(one)[21]) for one in _group(pid)) * _PAGE


def _stat(pid: int) -> list[str]:
    """Returns the fields of a process's `stat` behind its name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


@contextlib.contextmanager
def cowherd(folder: Path, words: Sequence[str] = (), fill: Callable[[Path], None] | None = None) -> Iterator[Service]:
    """Starts `cowherd serve` with one process; `fill` may put records into its database before."""
    folder.mkdir(parents=True, exist_ok=True)
    program = [sys.executable, "-c", "from cowherd.cli.programs import guard; guard()", "serve"]
    if fill:
        fill(folder)
    port = free_port()
    argv = [*program, "--data", str(folder), "--listen", f"127.0.0.1:{port}", *words]
    began = time.monotonic()
    with server(argv, dict(os.environ), folder / "serve.log", f"http://127.0.0.1:{port}/healthcheck") as process:
        yield Service(COWHERD, Client(port), process.pid, folder, time.monotonic() - began, _memory(process.pid))


@contextlib.contextmanager
def glance(peers: Peers, folder: Path, images: int = 0) -> Iterator[Service]:
    """Starts Glance with one process, as its own documents have it run, and so many records of images; nobody has to log in."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("store", "staging", "tasks", "settings"):
        (folder / name).mkdir()
    paste = peers.root / "etc/glance/glance-api-paste.ini"
    (folder / "settings" / "glance-api.conf").write_text(_GLANCE_SETTINGS.format(folder=folder, paste=paste))
    (folder / "settings" / "policy.yaml").write_text("".join(f'"{action}": "@"\n' for action in _OPEN))
    manage = [peers.program("glance-manage"), "--config-file", folder / "settings" / "glance-api.conf"]
    run([*manage, "db_sync"], peers.environment(folder), folder / "glance-manage.log")
    let_readers_pass(folder / "glance.db")
    fill_glance(folder / "glance.db", images)
    port, began = free_port(), time.monotonic()
    settings = {"OS_GLANCE_CONFIG_DIR": folder / "settings"}
    with uwsgi(peers, folder, "glance", "glance.wsgi.api:application", port, processes=1, threads=8, **settings):
        pid = _listener(folder)
        yield Service(GLANCE, Client(port), pid, folder, time.monotonic() - began, _memory(pid))


def _listener(folder: Path) -> int:
    """Returns the process whose command line names the folder: the first of uwsgi's."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if os.fsencode(folder / "glance-uwsgi.ini") in Path(f"/proc/{name}/cmdline").read_bytes():
                found.append(int(name))
    return min(found)


def image_of(number: int) -> dict[str, object]:
    """Returns what both services have of image `number`: one of ten has the tag "tenth", one of a hundred has a property."""
    properties = {"hw_disk_bus": "virtio", **({"hundredth": "yes"} if number % 100 == 0 else {})}
    return {
        "id": str(uuid.UUID(int=number + 1)),
        "name": f"image-{number:06}",
        "tags": ("tenth",) if number % 10 == 0 else (),
        "properties": properties,
        "size": 1 << 20,
        "visibility": "public",
        "disk_format": "qcow2",
        "container_format": "bare",
    }


def fill_cowherd(number: int) -> Callable[[Path], None]:
    """Returns what records so many images in the database of a folder; they are made once, beside the folder."""
    from cowherd.service.records.database import open_database
    from cowherd.service.records.image import Image
    from cowherd.service.records.images import create_image
    from cowherd.service.records.migration import migrate

    def fill(folder: Path) -> None:
        made = folder.with_name(f"records-{number}.sqlite")
        if not made.exists():
            database = open_database(f"sqlite:///{made}")
            migrate(database)
            with database.write() as connection:
                for one in map(image_of, range(number)):
                    create_image(connection, Image(owner="bench", status="active", **one))  # type: ignore[arg-type]
            database.close()
        shutil.copy(made, folder / "records.sqlite")

    return fill


def fill_glance(path: Path, number: int) -> None:
    """Records so many images in a database of Glance's."""
    made = [{**image_of(index), "at": f"2026-01-01 00:00:00.{index:06}"} for index in range(number)]
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO images (id, name, size, status, visibility, disk_format, container_format, created_at, updated_at,"
            " deleted, min_disk, min_ram, protected, os_hidden, owner) VALUES (:id, :name, :size, 'active', :visibility,"
            " :disk_format, :container_format, :at, :at, 0, 0, 0, 0, 0, 'bench')",
            [{key: value for key, value in one.items() if key not in ("tags", "properties")} for one in made],
        )
        connection.executemany(
            "INSERT INTO image_tags (image_id, value, created_at, updated_at, deleted)"
            " VALUES (?, ?, datetime('now'), datetime('now'), 0)",
            [(one["id"], tag) for one in made for tag in one["tags"]],  # type: ignore[attr-defined]
        )
        connection.executemany(
            "INSERT INTO image_properties (image_id, name, value, created_at, updated_at, deleted)"
            " VALUES (?, ?, ?, datetime('now'), datetime('now'), 0)",
            [(one["id"], *pair) for one in made for pair in one["properties"].items()],  # type: ignore[attr-defined]
        )
