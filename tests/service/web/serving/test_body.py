"""Long bodies, received in blocks: whole, in order, and no byte of what follows them."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from cowherd.service.intake.hashing import BLOCK_BYTES, SMALL_BLOCK_BYTES
from cowherd.service.web.serving import body as module
from cowherd.service.web.serving.body import LongBody
from tests.service.web.serving.serving import ask, read_all, served

CLOSING = b"Host: x\r\nConnection: close\r\n\r\n"


class Connection:
    """Notes what it is told of."""

    def __init__(self):
        self.parts, self.told = [], []

    def on_body(self, part):
        self.parts.append(part)

    def __getattr__(self, name):
        return lambda *given: self.told.append(name)


def fed(data: bytes, begun: int, pace: int, length: int | None = None) -> Connection:
    """Lets the event loop's part of the work bring `data`, at most `pace` bytes at once."""
    connection, loop = Connection(), asyncio.new_event_loop()
    body = LongBody(connection, loop, begun + len(data) if length is None else length, begun)
    rest = memoryview(data)
    while rest:
        room = body.get_buffer(-1)
        count = min(len(room), len(rest), pace)
        room[:count], rest = rest[:count], rest[count:]
        body.buffer_updated(count)
    if length is not None:
        body.connection_lost(None)
    loop.close()
    return connection


@pytest.mark.parametrize("begun", [0, 1, 70_000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 5])
@pytest.mark.parametrize("pace", [70_001, BLOCK_BYTES, 10 * BLOCK_BYTES])
def test_blocks_end_where_blocks_of_the_body_end(begun, pace):
    data = os.urandom(3 * BLOCK_BYTES + 77)
    connection = fed(data, begun, pace)
    assert b"".join(connection.parts) == data
    ends = [begun + sum(map(len, connection.parts[:index])) for index in range(1, len(connection.parts))]
    assert all(end % BLOCK_BYTES == 0 for end in ends)
    assert len(ends) >= 3
    assert connection.told == ["end_body"]


@pytest.mark.parametrize(
    ("bodies", "unit"), [(2, BLOCK_BYTES), (3, BLOCK_BYTES // 2), (8, SMALL_BLOCK_BYTES), (40, SMALL_BLOCK_BYTES)]
)
def test_while_several_bodies_come_at_once_their_blocks_are_smaller(bodies, unit):
    loop = asyncio.new_event_loop()
    several = [LongBody(Connection(), loop, 4 * BLOCK_BYTES, begun=1000) for _ in range(bodies)]
    assert {len(body.get_buffer(-1)) for body in several} == {unit - 1000}
    for body in several[1:]:
        body.connection_lost(None)
    several[0].buffer_updated(unit - 1000)
    rest = BLOCK_BYTES - unit
    if rest:
        assert len(several[0].get_buffer(-1)) == rest  # to where a large one would end
        several[0].buffer_updated(rest)
    assert len(several[0].get_buffer(-1)) == BLOCK_BYTES
    several[0].connection_lost(None)
    loop.close()


def test_what_came_of_a_block_is_not_lost_with_the_connection():
    data = os.urandom(BLOCK_BYTES + 1000)
    connection = fed(data, 0, 4000, length=9 * BLOCK_BYTES)
    assert b"".join(connection.parts) == data
    assert connection.told == ["connection_lost"]


async def echo(scope, receive, send):
    """Answers with the length of the body, and the body."""
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(bytes(message["body"]))
        more = message["more_body"]
    answer = b"".join(parts)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


def put(data: bytes) -> bytes:
    return b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data) + data


def test_requests_follow_each_other_on_a_connection_with_long_bodies_between():
    first, second = os.urandom(2 * BLOCK_BYTES + 3), os.urandom(BLOCK_BYTES)
    with served(echo) as port:
        answer = ask(port, put(first) + put(second) + put(b"short") + b"GET / HTTP/1.1\r\n" + CLOSING)
    heads_and_bodies = [first, second, b"short", b""]
    for one in heads_and_bodies:
        head, _, answer = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert answer[: len(one)] == one
        answer = answer[len(one) :]
    assert answer == b""


def test_the_bytes_of_a_slow_client_are_given_on_before_their_block_is_full(monkeypatch):
    monkeypatch.setattr(module, "LONGEST_HOLD_SECONDS", 0.01)
    came, data = [], os.urandom(2 * BLOCK_BYTES)

    async def app(scope, receive, send):
        while sum(came) < 1000 + BLOCK_BYTES // 2:
            came.append(len((await receive())["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    with served(app) as port, socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(put(data)[: -2 * BLOCK_BYTES + 1000])
        connection.sendall(data[1000 : 1000 + BLOCK_BYTES // 2])
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")  # with less than a block sent, the application had all that came
        connection.sendall(data[1000 + BLOCK_BYTES // 2 :] + b"GET / HTTP/1.1\r\n" + CLOSING)
        came.append(2 * BLOCK_BYTES)
        assert read_all(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "header", [b"Content-Length: 2000000\r\nContent-Length: 3000000", b"Content-Length: 2000000\r\nTransfer-Encoding: chunked"]
)
def test_a_length_that_is_stated_in_two_ways_is_refused(header):
    with served(echo) as port:
        answer = ask(port, b"PUT / HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n" + bytes(1000))
    assert answer.startswith(b"HTTP/1.1 400")
