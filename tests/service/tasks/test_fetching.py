"""How long a fetch may take, and where it goes when names change while it is under way."""

from __future__ import annotations

import socket
import threading

import pytest

from cowherd.service.tasks import fetching
from cowherd.service.tasks.addresses import Addresses, AddressRefused
from cowherd.service.tasks.fetching import FetchFailed, fetch
from tests.service.web.test_keystone import dripping

PUBLIC = "93.184.215.14"


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["in its head", "in a body without a length"])
def test_a_server_that_drips_is_cut_off(monkeypatch, head):
    monkeypatch.setattr(fetching, "LONGEST_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server, dripping(server, head):
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(FetchFailed), fetch(url, Addresses(("127.0.0.1",))) as fetched:
            list(fetched.blocks())


class Names:
    """A resolver that gives a name another address each time, and notes where connections go."""

    def __init__(self, monkeypatch, *answers):
        self.answers, self.asked, self.went = list(answers), [], []
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)
        monkeypatch.setattr(socket, "create_connection", self._connect)

    def _resolve(self, host, port, **named):
        if named.get("flags"):
            if host.replace(".", "").isdigit():
                return [(2, 1, 6, "", (host, port))]
            raise socket.gaierror
        self.asked.append(host)
        return [(2, 1, 6, "", (self.answers.pop(0), port))]

    def _connect(self, address, timeout=None):
        self.went.append(address)
        near, far = socket.socketpair()
        threading.Thread(target=self._answer, args=(far,), daemon=True).start()
        return near

    def _answer(self, far):
        with far:
            far.recv(1 << 16)
            far.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://again.example/\r\nContent-Length: 0\r\n\r\n")


def test_a_name_is_resolved_once_and_the_connection_goes_where_that_led(monkeypatch):
    names = Names(monkeypatch, PUBLIC, "127.0.0.1")
    with pytest.raises(AddressRefused, match=r"127\.0\.0\.1"), fetch("http://rebound.example/", Addresses()):
        pass
    assert names.asked == ["rebound.example", "again.example"]
    assert names.went == [(PUBLIC, 80)]


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "0.0.0.0"])
def test_a_redirect_to_a_name_that_leads_inside_is_not_followed(monkeypatch, address):
    names = Names(monkeypatch, PUBLIC, address)
    with pytest.raises(AddressRefused), fetch("http://outside.example/", Addresses()):
        pass
    assert names.went == [(PUBLIC, 80)]
