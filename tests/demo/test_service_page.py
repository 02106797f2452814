"""The commands of the page about the service do what the page shows: each is run, in order, in one shell."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.demo import installed
from tests.service.glance.glance import Glance

PAGE = "docs/service.md"
PORT = "9292"
END = "\x1e"
_KILLED = re.compile(r"bash: line \d+: .* Killed ")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


def replayed(session: str, folder: Path, **environment: str) -> str:
    """Returns a session with the output that its commands have in `folder`, at a port of its own that is shown as the page's."""
    port = free_port()
    commands = re.findall(r"^\$ (.*)$", session, re.MULTILINE)
    script = "\n".join(f"{command}\nprintf '{END}'" for command in commands).replace(PORT, port)
    end = "\nkill $(jobs -p) 2>/dev/null; wait\n"
    environment = {**{name: value for name, value in os.environ.items() if not name.startswith("OS_")}, **environment}
    environment["PATH"] = f"{installed.COMMANDS}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script + end],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    outputs = done.stdout.replace(port, PORT).split(END)
    return "".join(f"$ {command}\n{output}" for command, output in zip(commands, outputs, strict=False))


def comparable(session: str) -> list[str]:
    """A session's lines, without ids, the widths of columns, and what the shell says of a process that was killed."""
    return [" ".join(_ID.sub("ID", line).split()) for line in session.splitlines() if not _KILLED.match(line)]


def test_each_command_of_the_page_prints_what_it_shows(tmp_path):
    installed.require()
    session = "".join(installed.blocks(PAGE, "console"))
    assert session.count("$ ") > 20
    assert comparable(replayed(session, tmp_path)) == comparable(session)


def test_openstacks_client_does_what_the_page_shows(tmp_path):
    installed.require()
    if not shutil.which("openstack"):
        pytest.skip("pip install python-openstackclient python-glanceclient")
    blocks = installed.blocks(PAGE, "console(?: openstack)?")
    session = "".join(blocks[: 1 + next(place for place, one in enumerate(blocks) if "$ openstack" in one)])
    assert comparable(replayed(session, tmp_path)) == comparable(session)


def test_records_are_kept_in_postgresql_as_the_page_shows(tmp_path, postgresql):
    installed.require()
    session = "".join(installed.blocks(PAGE, "console postgresql"))
    assert session.count("sudo -u postgres ") == 6
    # The server is one of the tests' own; its administrator needs no password, as on a host, and sudo might ask for one.
    (tmp_path / "sudo").write_text(f'#!/bin/sh\nshift 2\nPGUSER={postgresql.superuser} exec "$@"\n')
    (tmp_path / "sudo").chmod(0o755)
    path = os.pathsep.join([str(tmp_path), str(postgresql.programs), os.environ["PATH"]])
    assert comparable(replayed(session, tmp_path, PATH=path, PGHOST=str(postgresql.folder))) == comparable(session)


def test_a_glance_is_adopted_as_the_page_shows(tmp_path):
    installed.require()
    glance = Glance(tmp_path / "glance")
    glance.image(bytes(1 << 20), id="8ac7ee17-1d6c-4b84-9f0a-6a1d9b6b9f5c", name="debian-12")
    rotten = glance.image(b"content", id="0d1a6a3e-7a9b-4a4e-8f4c-5a2b7c1d9e60", name="old")
    glance.path(rotten).write_bytes(b"contenu")
    glance.image(id="51cd0f32-4b8e-4c9c-8f4d-0b8f6f8b8e35", name="coming", status="queued")
    glance.namespace("OS::Compute::Watchdog")
    session = "".join(installed.blocks(PAGE, "console glance"))
    said = replayed(session.replace("/etc/glance", str(glance.folder)), tmp_path).replace(str(glance.folder), "/etc/glance")
    assert comparable(said) == comparable(session)
