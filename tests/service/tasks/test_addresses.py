"""From where the service fetches for its callers."""

from __future__ import annotations

import socket

import pytest

from cowherd.service.tasks.addresses import Addresses, AddressRefused, is_public


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "x",
            "file:///etc/passwd",
            "ftp://example.org/x",
            "http://",
            "http:///x",
            "http://example.org:99999/",
            "http://exa mple.org/",
        ),
        *(
            "http://example.org/\n",
            "http://u:p@example.org/",
            "http://example.org:8080/x",
            "https://example.org:80/",
            "http://[::1",
        ),
        *(
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://localhost/",
        ),
        *("http://a.localhost/", "http://169.254.169.254/latest", "http://10.0.0.1/", "http://192.168.1.1/", "http://0.0.0.0/"),
        *("http://[::1]/", "http://[::]/", "http://[fe80::1]/", "http://[fd00::1]/", "http://[::ffff:127.0.0.1]/"),
        *(
            "http://[2002:7f00:1::]/",
            "http://[64:ff9b::7f00:1]/",
            "http://100.64.0.1/",
            "http://224.0.0.1/",
            "http://exämple.org/",
        ),
    ],
)
def test_addresses_of_this_host_and_network_are_refused(url):
    with pytest.raises(AddressRefused):
        Addresses().check(url)


@pytest.mark.parametrize(
    "url", ["http://example.org/x?y=z", "https://example.org:443/", "http://93.184.215.14/", "http://[2606:2800::1]/"]
)
def test_addresses_of_the_internet_may_be_asked(url):
    assert Addresses().check(url).scheme in ("http", "https")


def test_what_is_allowed_is_allowed_as_it_is_written():
    rules = Addresses(("127.0.0.1:8080", "[::1]:8080", "images.local"))
    for url in ("http://127.0.0.1:8080/", "http://[::1]:8080/", "http://images.local:123/"):
        rules.check(url)
    for url in ("http://127.0.0.1/", "http://127.0.0.1:8081/", "http://127.1:8080/", "http://www.images.local:123/"):
        with pytest.raises(AddressRefused):
            rules.check(url)


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.215.14", "10.0.0.1"]])
def test_a_name_is_refused_if_one_of_its_addresses_is(monkeypatch, addresses):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 80)) for one in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **named: _no_number(named) or found)
    rules = Addresses()
    with pytest.raises(AddressRefused):
        rules.resolve("http://rebound.example/", rules.check("http://rebound.example/"))


def _no_number(named):
    if named.get("flags"):
        raise socket.gaierror


def test_the_address_is_the_one_that_was_judged(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **named: _no_number(named) or [(2, 1, 6, "", ("93.184.215.14", 80))])
    rules = Addresses()
    assert rules.resolve("http://a.example/", rules.check("http://a.example/")) == ("93.184.215.14", 80)


@pytest.mark.parametrize(
    ("address", "expected"), [("8.8.8.8", True), ("fe80::1%lo", False), ("::ffff:8.8.8.8", True), ("2001::1", False)]
)
def test_public_addresses(address, expected):
    assert is_public(address) is expected
