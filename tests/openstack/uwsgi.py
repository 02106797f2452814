"""keystone and Glance have no server of their own: uwsgi runs them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tests.openstack.peers import Peers
from tests.openstack.processes import server

# uwsgi keeps a thread for each client that holds its connection, and drops such a connection when it likes: it is closed at once.
# Glance reads chunked bodies by uwsgi's own call; both want their threads (imports run in them) made after the fork.
_COMMON = """\
[uwsgi]
http-socket = 127.0.0.1:{port}
pythonpath = {loaded}
import = on_sqlite
module = {application}
processes = {processes}
threads = {threads}
master = true
die-on-term = true
lazy-apps = true
enable-threads = true
thunder-lock = true
buffer-size = 65535
http-raw-body = true
http-chunked-input = true
http-auto-chunked = true
disable-logging = true
listen = 100
add-header = Connection: close
worker-reload-mercy = 10
socket-timeout = 60
"""


def let_readers_pass(database: Path) -> None:
    """Has a SQLite database write ahead: in its usual mode readers and writers wait for each other, some in vain."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


@contextlib.contextmanager
def uwsgi(
    peers: Peers,
    folder: Path,
    name: str,
    application: str,
    port: int,
    *,
    processes: int,
    threads: int,
    **env: str | Path,
) -> Iterator[str]:
    """Runs a WSGI application, MODULE:NAME, on the loopback; yields its URL."""
    config = folder / f"{name}-uwsgi.ini"
    settings = {"port": port, "application": application, "processes": processes, "threads": threads}
    config.write_text(_COMMON.format(loaded=Path(__file__).with_name("loaded"), **settings))
    url = f"http://127.0.0.1:{port}"
    argv = [peers.program("uwsgi"), "--ini", config, "--virtualenv", peers.root]
    with server(argv, peers.environment(folder, **env), folder / f"{name}.log", url):
        yield url
