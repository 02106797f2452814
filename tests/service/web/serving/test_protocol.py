"""What a connection lets a client do, and how files leave it."""

from __future__ import annotations

import asyncio
import os
import socket
import time

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cowherd.service.intake.hashing import BLOCK_BYTES
from cowherd.service.web.serving import protocol
from cowherd.service.web.serving.protocol import ZERO_COPY
from tests.service.web.serving.serving import ask, read_all, served

CLOSING = b"Host: x\r\nConnection: close\r\n\r\n"


async def hello(scope, receive, send):
    """Answers without a look at the request's body."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def file_sender(path, parts):
    async def app(scope, receive, send):
        assert ZERO_COPY in scope["extensions"]
        length = sum(count for _, count in parts)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % length)]})
        with open(path, "rb") as file:
            for index, (offset, count) in enumerate(parts, 1):
                message = {"type": ZERO_COPY, "file": file, "offset": offset, "count": count}
                await send({**message, "more_body": index < len(parts)})

    return app


@pytest.fixture
def content(tmp_path):
    """A file of 3 MB, with its bytes."""
    data = os.urandom(3_000_000)
    (tmp_path / "content").write_bytes(data)
    return tmp_path / "content", data


@pytest.mark.parametrize("parts", [[(0, 3_000_000)], [(5, 1)], [(1000, 2_000_000), (0, 7)]], ids=["whole", "byte", "two"])
def test_ranges_of_a_file_are_sent_as_they_lie_there(content, parts):
    path, data = content
    with served(file_sender(path, parts)) as port:
        answer = ask(port, b"GET / HTTP/1.1\r\n" + CLOSING)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body == b"".join(data[offset : offset + count] for offset, count in parts)


def test_a_connection_goes_on_after_a_file(content):
    path, data = content
    with served(file_sender(path, [(0, 100)])) as port:
        answer = ask(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n" + CLOSING)
    assert answer.count(data[:100]) == 2


@pytest.mark.filterwarnings("ignore")
def test_a_file_that_is_shorter_than_stated_ends_the_connection(content):
    path, data = content
    with served(file_sender(path, [(2_999_000, 2000)])) as port:
        head, _, body = ask(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").partition(b"\r\n\r\n")
    assert b"content-length: 2000" in head
    assert body == data[2_999_000:]


def test_a_client_that_goes_away_in_the_middle_of_a_file_harms_nobody(content, caplog):
    path, _ = content
    with served(file_sender(path, [(0, 3_000_000)] * 20)) as port:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.recv(1000)
        assert len(ask(port, b"GET / HTTP/1.1\r\n" + CLOSING)) > 60_000_000
    assert not caplog.records


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"A: bcdefghi\r\n" * 10_000 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 400_000, b"431"),
    ],
    ids=["target", "header", "headers", "unfinished"],
)
def test_a_head_that_is_too_large_is_refused(request_head, status):
    with served(hello) as port:
        assert ask(port, request_head).startswith(b"HTTP/1.1 " + status)


def test_what_is_no_http_is_refused():
    with served(hello) as port:
        assert ask(port, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_the_rest_of_a_body_is_dropped_after_the_answer_and_the_connection_goes_on():
    with served(hello) as port:
        body = b"x" * 2_000_000
        answer = ask(
            port, b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" + body + b"GET / HTTP/1.1\r\n" + CLOSING
        )
    assert answer.count(b"hello") == 2


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_body_comes_whole_and_in_order_however_slowly_it_is_taken_and_little_of_it_waits(framing):
    body = os.urandom(8 << 20)
    taken: list[bytes] = []

    async def slow(scope, receive, send):
        more = True
        while more:
            await asyncio.sleep(0.01)
            message = await receive()
            taken.append(message["body"])
            more = message["more_body"]
        await hello(scope, receive, send)

    head = b"Content-Length: %d\r\n" % len(body) if framing == "length" else b"Transfer-Encoding: chunked\r\n"
    sent = body if framing == "length" else b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    with served(slow) as port:
        assert ask(port, b"PUT / HTTP/1.1\r\n" + head + CLOSING + sent).endswith(b"hello")
    assert b"".join(taken) == body
    assert max(map(len, taken)) <= (BLOCK_BYTES if framing == "length" else protocol.MOST_WAITING_BYTES + (256 << 10))


def test_no_more_than_a_bound_is_dropped(monkeypatch):
    monkeypatch.setattr(protocol, "MOST_DRAINED_BYTES", 1 << 20)
    with served(hello) as port, socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(b"x" * 999_999_999)


def test_a_client_that_was_never_asked_for_its_body_is_left():
    with served(hello) as port:
        answer = ask(port, b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"100 Continue" not in answer


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"])
def test_a_client_that_says_nothing_is_left(monkeypatch, sent):
    monkeypatch.setattr(protocol, "SILENCE_SECONDS", 0.2)
    with served(hello) as port, socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(sent)
        begin = time.monotonic()
        read_all(connection)
    assert time.monotonic() - begin < 3


def test_a_uvicorn_that_is_built_otherwise_is_used_as_it_is(monkeypatch):
    assert protocol.protocol_class() is protocol.Protocol
    monkeypatch.setattr(protocol, "RequestResponseCycle", type("Other", (), {}))
    assert protocol.protocol_class() is HttpToolsProtocol
