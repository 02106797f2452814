"""Asking monitors: real machines, machines that do not answer, and what is no machine at all."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from cowherd.live import qmp
from cowherd.live.qmp import MonitorBusy, MonitorLost, MonitorRefused, MonitorSilent, NotQmp, QmpMissing, ask, ask_all
from cowherd.live.unix_sockets import connections_to, processes_with_socket
from tests.storage.hosts import require_root

GREETING = b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}\n'
NOBODY = 65534


@pytest.fixture
def impatient(monkeypatch):
    """What does not answer is waited for so long as a test can wait."""
    monkeypatch.setattr(qmp, "CONNECT_SECONDS", 0.6)
    monkeypatch.setattr(qmp, "COMMAND_SECONDS", 0.6)


@contextlib.contextmanager
def listening(path, serve=None, backlog=5):
    """Listens at `path`; with `serve` a thread calls it with each connection, one after the other."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen(backlog)

        def accept():
            with contextlib.suppress(OSError):  # it is closed when the test is over
                while True:
                    connection, _ = listener.accept()
                    with contextlib.suppress(OSError), connection:
                        serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        if serve:
            thread.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
    if serve:
        thread.join(10)


def requests(connection):
    """Yields what a client asks: objects one behind the other, without line ends."""
    text = ""
    while data := connection.recv(1 << 16):
        text += data.decode()
        while text:
            try:
                request, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                break  # the rest is still to come
            text = text[end:].lstrip()
            yield request


def machine(**answers):
    """Plays a machine that gives some answers and knows no other commands."""

    def serve(connection):
        connection.sendall(GREETING)
        for request in requests(connection):
            name = request["execute"]
            done = {"return": {}} if name == "qmp_capabilities" else {"return": answers[name]} if name in answers else None
            answer = done or {"error": {"class": "CommandNotFound", "desc": f"The command {name} has not been found"}}
            connection.sendall(json.dumps(answer | {"id": request.get("id")}).encode() + b"\n")

    return serve


def wait_for_ever(connection):
    connection.recv(1)  # until the other side gives up


def test_answers_come_by_command_and_unknown_commands_are_left_out(tmp_path):
    with listening(tmp_path / "monitor", machine(**{"query-status": {"running": True}})) as path:
        assert ask(path, ["query-status", "query-unheard-of"]) == (os.getpid(), {"query-status": {"running": True}})


def test_only_commands_that_ask_are_sent(tmp_path):
    with pytest.raises(ValueError, match="'quit'"):
        ask(tmp_path / "monitor", ["query-status", "quit"])


def test_one_that_does_not_answer_costs_the_others_nothing(tmp_path, impatient):
    answers = {"query-name": {"name": "web"}}
    with (
        listening(tmp_path / "one", machine(**answers)) as one,
        listening(tmp_path / "silent", wait_for_ever) as silent,
        listening(tmp_path / "two", machine(**answers)) as two,
    ):
        first, none, second = ask_all([one, silent, two], ["query-name"])
    assert first == second == (os.getpid(), answers)
    assert isinstance(none, MonitorSilent)


def test_without_the_package_it_is_said_which_one_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "qemu.qmp", None)
    with pytest.raises(QmpMissing, match=r"cowherd\[live\]"):
        ask(tmp_path / "monitor", ["query-status"])


def send_and_end(data):
    return lambda connection: connection.sendall(data)


def send_for_ever(connection):
    while True:
        connection.sendall(b"x" * (1 << 20))


@pytest.mark.parametrize(
    "serve",
    [
        send_and_end(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
        send_and_end(b"login: \n"),
        send_and_end(b"\xff\xfe\x00\n"),
        send_and_end(b"[1, 2]\n"),
        send_and_end(b'{"QMP": 7}\n'),
        send_and_end(b'{"return": {}}\n'),
        send_and_end(GREETING + b"what?\n"),
        send_and_end(b"[" * 100_000 + b"\n"),
        send_for_ever,
    ],
    ids=["http", "a login", "no text", "a list", "a number", "an answer", "a late surprise", "deep", "no line end"],
)
def test_what_speaks_something_else_is_no_monitor(tmp_path, serve):
    with listening(tmp_path / "socket", serve) as path, pytest.raises(NotQmp, match="socket"):
        ask(path, ["query-status"])


def answering(answer):
    """Plays a machine that sends the same, whatever it is asked; ID stands for the number of the request."""

    def serve(connection):
        connection.sendall(GREETING)
        for request in requests(connection):
            number = json.dumps(request.get("id")).encode()
            welcome = b'{"return": {}, "id": %s}' % number
            connection.sendall((welcome if request["execute"] == "qmp_capabilities" else answer.replace(b"ID", number)) + b"\n")

    return serve


@pytest.mark.parametrize(
    "answer",
    [
        b'{"return": %s, "id": ID}' % (b"[" * 10_000 + b"]" * 10_000),
        b'{"return": %s1%s, "id": ID}' % (b'{"a":' * 10_000, b"}" * 10_000),
        b'{"return": %s, "id": ID}' % (b"9" * 5000),
        b'{"return": "\xff\xfe", "id": ID}',
        b'{"return": {}, "id": [1]}',
        b'{"return": {}, "id": {"a": 1}}',
        b'{"id": ID}',
        b'{"error": "no", "id": ID}',
        b'{"error": {"class": 7, "desc": []}, "id": ID}',
        b'{"error": {"class": "GenericError", "desc": "no"}}',
        b'"text"',
        b"7",
        b"null",
        b"",
        b"\0\0\0",
    ],
    ids=lambda answer: ascii(answer.decode("latin-1"))[:40],
)
def test_an_answer_of_another_form_is_no_monitors(tmp_path, answer, impatient):
    with listening(tmp_path / "socket", answering(answer)) as path, pytest.raises(NotQmp):
        ask(path, ["query-status"])


@pytest.mark.parametrize("answer", [b'{"return": {}}', b'{"return": {}, "id": 7}', b'{"event": 7}', b'{"event": "x", "data": 7}'])
def test_what_answers_no_question_is_waited_past_and_no_longer(tmp_path, answer, impatient):
    with listening(tmp_path / "socket", answering(answer)) as path, pytest.raises(MonitorSilent):
        ask(path, ["query-status"])


def test_what_a_machine_says_when_it_refuses_is_escaped(tmp_path):
    answer = b'{"error": {"class": "GenericError", "desc": "\\u001b[2J no"}, "id": ID}'
    with listening(tmp_path / "socket", answering(answer)) as path, pytest.raises(MonitorLost) as lost:
        ask(path, ["query-status"])
    assert str(lost.value).endswith(r"refuses query-status: \x1b[2J no")


def test_a_monitor_with_a_path_longer_than_an_address_is_asked(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 100) / ("d" * 100)
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    with listening("short", machine(**{"query-status": {}})):
        assert ask(deep / "short", ["query-status"]).by_command == {"query-status": {}}


def test_one_that_hangs_up_is_lost(tmp_path):
    with listening(tmp_path / "socket", lambda connection: None) as path, pytest.raises(MonitorLost, match="hung up"):
        ask(path, ["query-status"])


def test_one_that_hangs_up_in_the_middle_is_lost(tmp_path):
    def serve(connection):
        connection.sendall(GREETING)
        asked = requests(connection)
        connection.sendall(json.dumps({"return": {}, "id": next(asked).get("id")}).encode() + b"\n")
        next(asked)

    with listening(tmp_path / "socket", serve) as path, pytest.raises(MonitorLost, match="in the middle"):
        ask(path, ["query-status"])


def test_one_that_greets_and_does_not_answer_is_silent(tmp_path, impatient):
    def serve(connection):
        connection.sendall(GREETING)
        while connection.recv(1000):
            pass

    with listening(tmp_path / "socket", serve) as path, pytest.raises(MonitorSilent, match=r"within 0\.6 s"):
        ask(path, ["query-status"])


def test_nobody_listens_at_a_socket_that_was_left_nor_at_a_file(tmp_path):
    with listening(tmp_path / "left"):
        pass
    (tmp_path / "file").touch()
    for name in ("left", "file", "nothing", "file/below"):
        with pytest.raises(MonitorLost, match="nobody listens"):
            ask(tmp_path / name, ["query-status"])


def test_a_name_that_no_socket_can_have_is_lost(tmp_path):
    with pytest.raises(MonitorLost):
        ask(tmp_path / ("x" * 200), ["query-status"])


def test_who_may_not_connect_is_told_so(tmp_path):
    require_root()
    os.chmod(tmp_path, 0o755)
    with listening(tmp_path / "socket", wait_for_ever) as path:
        os.chmod(path, 0o600)
        os.seteuid(NOBODY)
        try:
            with pytest.raises((MonitorRefused, MonitorLost)) as refused:
                ask(path, ["query-status"])
        finally:
            os.seteuid(0)
    assert isinstance(refused.value, MonitorRefused)


CLIENT = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"


@contextlib.contextmanager
def client_of(path):
    process = subprocess.Popen([sys.executable, "-c", CLIENT, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    try:
        yield process
    finally:
        process.communicate(b"")


def test_one_that_serves_another_client_names_it(tmp_path, impatient):
    with listening(tmp_path / "socket", wait_for_ever) as path, client_of(path) as client:
        until = time.monotonic() + 10
        while not connections_to(path) and time.monotonic() < until:
            time.sleep(0.01)
        assert client.pid in processes_with_socket(connections_to(path)[0].peer)
        with pytest.raises(MonitorBusy, match=f"pid {client.pid}") as busy:
            ask(path, ["query-status"])
        assert busy.value.clients == (client.pid,)


def test_one_whose_queue_is_full_is_waited_for_and_no_longer(tmp_path, impatient):
    with listening(tmp_path / "socket", backlog=0) as path, client_of(path), pytest.raises(MonitorSilent):
        ask(path, ["query-status"])


@pytest.fixture
def qemu(tmp_path, request):
    """A machine with a monitor, which waits at its first instruction."""
    program = "qemu-system-x86_64"
    path = tmp_path / "monitor"
    words = [program, "-accel", "tcg", "-S", "-display", "none", "-nodefaults", "-qmp", f"unix:{path},server=on,wait=off"]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while isinstance(ask_all([path], [])[0], MonitorLost) and time.monotonic() < until:
        time.sleep(0.02)  # the socket is there a moment before anybody listens
    yield process, path
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


@pytest.mark.qemu("qemu-system-x86_64")
def test_a_real_machine_answers_again_and_again(qemu):
    process, path = qemu
    for _ in range(3):
        commands = ["query-status", "query-named-block-nodes", "query-block", "query-jobs", "query-block-exports"]
        pid, answers = ask(path, commands)
        assert pid == process.pid
        assert answers["query-status"]["running"] is False
        assert answers["query-named-block-nodes"] == []


@pytest.mark.qemu("qemu-system-x86_64")
def test_a_real_machine_that_serves_another_client_names_it(qemu, impatient):
    _, path = qemu
    ask(path, ["query-status"])
    with client_of(path) as client:
        with pytest.raises(MonitorBusy) as busy:
            ask(path, ["query-status"])
        assert busy.value.clients == (client.pid,)
    assert ask(path, ["query-status"])


@pytest.mark.qemu("qemu-system-x86_64")
def test_a_real_machine_that_is_stopped_is_called_so(qemu, impatient):
    process, path = qemu
    ask(path, ["query-status"])
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(MonitorSilent, match=f"pid {process.pid}.* is stopped") as silent:
        ask(path, ["query-status"])
    assert silent.value.pid == process.pid
