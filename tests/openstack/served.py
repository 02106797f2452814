"""cowherd's own service, set up as Glance is beside it: two stores, with callers from keystone or from a file of tokens."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.openstack.identity import Identity
from tests.openstack.processes import server

ROOT = Path(__file__).parents[2]


def cowherd(*arguments: str | Path) -> list[str]:
    """Returns the words of a cowherd command of this source tree."""
    return [str(Path(sys.executable).with_name("cowherd")), *map(str, arguments)]


def environment(folder: Path) -> dict[str, str]:
    """Returns an environment in which this source tree is found."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "PYTHONPATH": str(ROOT / "src"), "LC_ALL": "C.UTF-8"}


@contextlib.contextmanager
def served(
    folder: Path, port: int, identity: Identity | None, web_port: int, *, enforced: bool = True, workers: int = 1
) -> Iterator[str]:
    """Starts `cowherd serve` on a new database; yields its URL. Without an identity, callers are those of the file of tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    auth = ["--auth", "keystone", "--keystone", identity.url] if identity else ["--auth", "tokens"]
    argv = cowherd(
        *("serve", "--data", folder, "--listen", f"127.0.0.1:{port}", *auth, "--workers", str(workers)),
        *("--store", f"cheap={folder / 'cheap'}", "--store", f"fast={folder / 'fast'}"),
        *("--import-allowed", f"127.0.0.1:{web_port}", "--http-store", "web"),
        *(["--require-format-match", "false"] if not enforced else []),
    )
    url = f"http://127.0.0.1:{port}"
    with server(argv, environment(folder), folder / "serve.log", f"{url}/versions"):
        yield url


def new_token(folder: Path, user: str, project: str, roles: tuple[str, ...]) -> str:
    """Adds a caller to the file of tokens of a service's folder; returns the token."""
    folder.mkdir(parents=True, exist_ok=True)
    argv = cowherd("serve", "--data", folder, "--new-token", "--user", user, "--project", project)
    argv += [word for role in roles for word in ("--role", role)]
    return subprocess.run(argv, env=environment(folder), capture_output=True, text=True, check=True).stdout.strip()
