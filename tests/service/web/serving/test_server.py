"""The end of a server, and the next one on its socket."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from cowherd.service.web.serving import server as server_module
from cowherd.service.web.serving.server import make_server
from tests.service.web.serving.serving import read_all
from tests.service.web.serving.test_protocol import CLOSING, hello
from tests.waiting import wait_until


@pytest.fixture
def bound():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen(50)
        yield bound


@contextlib.contextmanager
def serving(bound):
    """Serves on a socket that stays open. Gives what ends the server, which the end of the block waits for."""
    answers = threading.Event()
    server = make_server(hello, answers.set)
    thread = threading.Thread(target=server.run, args=([bound.dup()],))
    thread.start()
    assert answers.wait(30)
    try:
        yield lambda: setattr(server, "should_exit", True)
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def is_answered(bound):
    with socket.create_connection(bound.getsockname(), timeout=0.5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + CLOSING)
        try:
            return read_all(connection) != b""
        except TimeoutError:
            return False


def test_whoever_was_let_in_gets_an_answer_after_the_signal(bound, monkeypatch):
    monkeypatch.setattr(server_module, "_FIRST_SECONDS", 30.0)
    with serving(bound) as end, socket.create_connection(bound.getsockname(), timeout=30) as connection:
        connection.sendall(b"G")  # so that the connection has been taken when the answer to the next one comes
        with socket.create_connection(bound.getsockname(), timeout=30) as other:
            other.sendall(b"GET / HTTP/1.1\r\n" + CLOSING)
            read_all(other)
        end()
        wait_until(lambda: not is_answered(bound))
        connection.sendall(b"ET / HTTP/1.1\r\n" + CLOSING)
        assert read_all(connection).endswith(b"hello")


def test_every_connection_gets_an_answer_of_this_server_or_of_the_next(bound):
    unanswered = []
    over = threading.Event()

    def knock():
        while not over.is_set():
            with socket.create_connection(bound.getsockname(), timeout=30) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n" + CLOSING)
                answer = read_all(connection)
            if not answer.endswith(b"hello"):
                unanswered.append(answer)

    clients = [threading.Thread(target=knock) for _ in range(8)]
    for client in clients:
        client.start()
    for _ in range(10):
        with serving(bound):
            pass
    over.set()
    with serving(bound):
        for client in clients:
            client.join(30)
    assert unanswered == []
