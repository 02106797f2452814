"""The socket that the service listens on."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from cowherd.errors import HostFileError
from cowherd.service.web.serving.sockets import listening, url_of


def test_port_zero_takes_a_free_one_which_the_url_names():
    with listening("127.0.0.1:0", None) as bound:
        host, port = bound.getsockname()
        assert url_of(bound) == f"http://{host}:{port}"
        socket.create_connection((host, port)).close()


def test_an_address_of_ipv6_stands_in_brackets():
    with listening("[::1]:0", None) as bound:
        assert url_of(bound) == f"http://[::1]:{bound.getsockname()[1]}"


def test_an_address_in_use_is_told():
    with listening("127.0.0.1:0", None) as bound, pytest.raises(HostFileError, match="in use"):
        listening(f"127.0.0.1:{bound.getsockname()[1]}", None).__enter__()


def test_a_socket_file_is_its_owners_and_goes_at_the_end(tmp_path):
    path = tmp_path / "socket"
    with listening(None, str(path)) as bound:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert url_of(bound) == f"unix:{path}"
    assert not path.exists()


def test_a_socket_that_nobody_listens_on_is_replaced(tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listening(None, str(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_another_process_listens_on_is_kept(tmp_path):
    path = tmp_path / "socket"
    with listening(None, str(path)):
        with pytest.raises(HostFileError, match="another process"):
            listening(None, str(path)).__enter__()
        assert path.exists()


def test_a_file_that_is_no_socket_is_kept(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(HostFileError, match="no socket"):
        listening(None, str(path)).__enter__()
    assert path.read_text() == "mine"


def test_another_servers_socket_is_not_removed(tmp_path):
    path = tmp_path / "socket"
    with listening(None, str(path)):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.exists()


def test_a_socket_that_was_passed_is_taken(monkeypatch):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        monkeypatch.setattr("cowherd.service.web.serving.sockets._FIRST_PASSED", os.dup(bound.fileno()))
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        with listening("127.0.0.1:0", None) as passed:
            assert passed.getsockname() == bound.getsockname()
