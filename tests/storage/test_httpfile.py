"""Files that a server gives out: what is read, in how many requests, and what becomes of servers that do it badly."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.errors import HostFileError, ReadOnlyImage, RemoteFileError
from cowherd.storage import httpconnection, httpfile
from cowherd.storage.httpfile import BLOCK_BYTES, LONGEST_BYTES, READ_AHEAD_BYTES, HttpFile
from cowherd.storage.opening import open_file, require_host
from cowherd.urls import Url
from tests.webserver import Answer, Asked, Handler, WebServer, serving

KIB = 1 << 10
CONTENT = random.Random(1).randbytes(1000 * KIB + 17)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with serving(CONTENT) as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits a fraction of what one would wait for a server."""
    monkeypatch.setattr(httpconnection, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(httpconnection, "ANSWER_SECONDS", 0.9)


def refused(server: WebServer, problem: str) -> RemoteFileError:
    """Opens the file, and expects that to be refused."""
    with pytest.raises(RemoteFileError, match=problem) as caught:
        HttpFile.open(server.url)
    assert caught.value.action == "open"
    return caught.value


def fails_to_read(server: WebServer, bad: Answer, problem: str) -> None:
    """Reads bytes that opening did not bring and that get a `bad` answer; expects that to fail in time."""
    begin = time.monotonic()
    with HttpFile.open(server.url) as file:
        server.answer = bad
        with pytest.raises(RemoteFileError, match=problem) as caught:
            file.pread(500 * KIB, 4096)
    assert caught.value.action == "read"
    assert time.monotonic() - begin < 10


# What is read.


@given(st.lists(st.tuples(st.integers(0, len(CONTENT) + 100_000), st.integers(0, 600 * KIB)), min_size=1, max_size=6))
def test_any_range_reads_as_it_is_and_zeros_behind_the_end(ranges: list[tuple[int, int]]):
    with serving(CONTENT) as server, HttpFile.open(server.url) as file:
        for offset, length in ranges:
            assert file.pread(offset, length) == CONTENT[offset : offset + length].ljust(length, b"\0")
        parts = [(offset, memoryview(bytearray(length))) for offset, length in ranges]
        file.gather(parts)
        for offset, view in parts:
            assert bytes(view) == CONTENT[offset : offset + len(view)].ljust(len(view), b"\0")


def test_one_request_opens_a_file_and_brings_its_beginning(server: WebServer):
    with HttpFile.open(server.url) as file:
        assert file.size() == len(CONTENT)
        assert file.pread(0, 512) + file.pread(200 * KIB, 512) == CONTENT[:512] + CONTENT[200 * KIB : 200 * KIB + 512]
    assert [(asked.start, asked.end) for asked in server.requests] == [(0, READ_AHEAD_BYTES)]


def test_small_reads_fetch_ahead_and_are_kept(server: WebServer):
    with HttpFile.open(server.url) as file:
        for offset in range(512 * KIB, 512 * KIB + READ_AHEAD_BYTES, 4096):
            assert file.pread(offset, 4096) == CONTENT[offset : offset + 4096]
    assert [(asked.start, asked.length) for asked in server.requests[1:]] == [(512 * KIB, READ_AHEAD_BYTES)]


def test_for_a_read_of_a_cluster_no_more_than_its_blocks_are_fetched(server: WebServer):
    with HttpFile.open(server.url) as file:
        for offset in (64 * KIB + 7, 250 * KIB, 300 * KIB, 300 * KIB, 640 * KIB):
            assert file.pread(offset, BLOCK_BYTES) == CONTENT[offset : offset + BLOCK_BYTES]
    fetched = [(asked.start, asked.length) for asked in server.requests[1:]]
    assert fetched == [(256 * KIB, 64 * KIB), (320 * KIB, 64 * KIB), (640 * KIB, 64 * KIB)]


def test_what_is_read_large_is_not_kept(server: WebServer):
    with HttpFile.open(server.url) as file:
        before = len(file._blocks)
        file.pread(300 * KIB, READ_AHEAD_BYTES)
        assert len(file._blocks) == before


def test_what_is_kept_is_bounded(server: WebServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(httpfile, "_KEPT_BLOCKS", 6)
    with HttpFile.open(server.url) as file:
        for offset in (300 * KIB, 700 * KIB, 0, 0):
            file.pread(offset, 512)
        assert len(file._blocks) == 6
    assert [asked.start for asked in server.requests] == [0, 256 * KIB, 640 * KIB, 0]


def test_a_long_read_is_cut_into_requests_of_bounded_length():
    content = bytes(1) * (2 * LONGEST_BYTES + 5)
    with serving(content) as server, HttpFile.open(server.url) as file:
        assert file.pread(0, len(content)) == content
        assert [asked.length for asked in server.requests[1:]] == [LONGEST_BYTES, LONGEST_BYTES, 5]


def test_parts_that_lie_close_together_are_fetched_at_once(server: WebServer):
    with HttpFile.open(server.url) as file:
        parts = [(400 * KIB + at * 40 * KIB, memoryview(bytearray(20 * KIB))) for at in (7, 3, 0, 5, 1, 2, 6, 4)]
        file.gather(parts)
        assert all(bytes(view) == CONTENT[offset : offset + 20 * KIB] for offset, view in parts)
    assert len(server.requests) == 2


def test_all_of_it_counts_as_data(server: WebServer):
    with HttpFile.open(server.url) as file:
        assert list(file.data_ranges(5, 1 << 40)) == [(5, len(CONTENT))]
        assert list(file.data_ranges(1 << 30, 1 << 40)) == []
        assert (file.next_data(7), file.next_data(len(CONTENT)), file.allocated_bytes()) == (7, None, None)


def test_connections_are_used_again(server: WebServer):
    with HttpFile.open(server.url) as file:
        for offset in (300 * KIB, 600 * KIB, 900 * KIB):
            file.pread(offset, 512)
    assert (len(server.requests), len({asked.client for asked in server.requests})) == (4, 1)


def test_a_server_may_close_the_connection_after_each_answer(server: WebServer):
    server.answer = lambda handler, asked: handler.send_range(CONTENT, asked, Connection="close")
    with HttpFile.open(server.url) as file:
        assert file.pread(300 * KIB, 700 * KIB) == CONTENT[300 * KIB : 1000 * KIB]


def test_a_server_may_hang_up_between_two_requests(server: WebServer):
    def answer(handler: Handler, asked: Asked) -> None:
        handler.send_range(CONTENT, asked)
        handler.close_connection = True  # without having said so

    server.answer = answer
    with HttpFile.open(server.url) as file:
        assert [file.pread(offset, 9) for offset in (300 * KIB, 900 * KIB)] == [CONTENT[at : at + 9] for at in (307200, 921600)]


def test_a_body_in_chunks_is_read(server: WebServer):
    def answer(handler: Handler, asked: Asked) -> None:
        part = CONTENT[asked.start : asked.end]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (part[:100], part[100:]))
        place = f"bytes {asked.start}-{asked.start + len(part) - 1}/{len(CONTENT)}"
        handler.send(206, chunks + b"0\r\n\r\n", Content_Length=None, Transfer_Encoding="chunked", Content_Range=place)

    server.answer = answer
    with HttpFile.open(server.url) as file:
        assert file.pread(300 * KIB, 700 * KIB) == CONTENT[300 * KIB : 1000 * KIB]


@pytest.mark.parametrize("status", [416, 200])
def test_an_empty_file_is_read(status: int):
    with serving(b"") as server:
        if status == 200:
            server.answer = lambda handler, asked: handler.send(200)
        with HttpFile.open(server.url) as file:
            assert (file.size(), file.pread(0, 512)) == (0, bytes(512))


# Names, rights and places.


def test_what_is_secret_in_an_address_is_sent_and_not_shown(server: WebServer):
    url = Url(server.address.replace("//", "//me:pass%20word@") + "?sig=hidden#part")
    assert str(url) == server.address + "?..."
    assert repr(url) == f"Url('{server.address}?...')"
    with HttpFile.open(url) as file:
        assert file.size() == len(CONTENT)
    assert server.requests[0].headers["Authorization"] == "Basic bWU6cGFzcyB3b3Jk"
    assert server.requests[0].target == "/image?sig=hidden"
    server.answer = lambda handler, asked: handler.send(403)
    with pytest.raises(RemoteFileError) as caught:
        HttpFile.open(url)
    assert str(caught.value) == f"Could not open '{server.address}?...': The requested URL returned error: 403"


@pytest.mark.parametrize("address", ["http://u:se/cret@host/x", "http://u:secret@[::1/x", "http://h:99999/secret"])
def test_of_an_address_that_makes_no_sense_nothing_is_shown(address: str):
    with pytest.raises(RemoteFileError, match="makes no sense") as caught:
        open_file(Url(address))
    assert "cret" not in str(caught.value)


def test_an_address_without_a_host_is_refused():
    with pytest.raises(RemoteFileError, match="the address has no host"):
        open_file(Url("http:///x"))


def test_only_an_address_leads_to_a_server(server: WebServer):
    with pytest.raises(HostFileError, match="No such file"):
        open_file(server.address)
    with pytest.raises(TypeError):
        os.fspath(server.url)  # type: ignore[call-overload]
    assert server.requests == []


def test_nothing_is_written(server: WebServer):
    with pytest.raises(RemoteFileError, match="not be written to"):
        open_file(server.url, writable=True)
    assert server.requests == []
    with HttpFile.open(server.url) as file:
        for change in (lambda: file.pwrite(0, b"x"), file.flush, lambda: file.truncate(0), lambda: file.punch_hole(0, 1)):
            with pytest.raises(ReadOnlyImage):
                change()
        with pytest.raises(Exception, match="no file of this host"):
            require_host(file)


def test_two_versions_are_two_files(server: WebServer):
    with HttpFile.open(server.url) as one, HttpFile.open(server.url) as same:
        assert one.key == same.key
        server.answer = lambda handler, asked: handler.send_range(CONTENT, asked, ETag='"two"')
        with HttpFile.open(server.url) as other:
            assert one.key != other.key


# Redirections.


def test_redirections_are_followed_and_then_left_out(server: WebServer):
    def answer(handler: Handler, asked: Asked) -> None:
        if asked.target == "/image":
            handler.send(302, Location="/moved/here%20now")
        else:
            handler.send_range(CONTENT, asked)

    server.answer = answer
    with HttpFile.open(server.url) as file:
        assert file.pread(300 * KIB, 5) == CONTENT[300 * KIB : 300 * KIB + 5]
    assert [asked.target for asked in server.requests] == ["/image", "/moved/here%20now", "/moved/here%20now"]


def test_where_a_redirection_led_may_expire(server: WebServer):
    counted = iter(range(100))
    valid = []

    def answer(handler: Handler, asked: Asked) -> None:
        if asked.target == "/image":
            valid[:] = [f"/signed/{next(counted)}"]
            handler.send(307, Location=valid[0])
        elif [asked.target] == valid:
            handler.send_range(CONTENT, asked)
        else:
            handler.send(403)

    server.answer = answer
    with HttpFile.open(server.url) as file:
        valid.clear()
        assert file.pread(300 * KIB, 5) == CONTENT[300 * KIB : 300 * KIB + 5]


def test_a_connection_serves_one_server(server: WebServer):
    both = threading.Barrier(2, timeout=10)

    def together(handler: Handler, asked: Asked) -> None:
        both.wait()
        handler.send_range(CONTENT, asked)

    with serving(CONTENT[::-1]) as other, HttpFile.open(server.url) as file:
        server.answer = together
        with ThreadPoolExecutor(2) as pool:  # so that two connections are kept
            assert list(pool.map(lambda at: file.pread(at, 9), (300 * KIB, 700 * KIB))) == [
                CONTENT[at : at + 9] for at in (300 * KIB, 700 * KIB)
            ]
        server.answer = lambda handler, asked: handler.send(302, Location=other.address)
        assert file.pread(900 * KIB, 70 * KIB) == CONTENT[::-1][900 * KIB : 970 * KIB]
        assert len(other.requests) == 1
        assert [asked.start for asked in server.requests].count(896 * KIB) == 1


def test_credentials_are_not_sent_to_another_server(server: WebServer):
    with serving(CONTENT) as other:
        server.answer = lambda handler, asked: handler.send(301, Location=other.address)
        with HttpFile.open(Url(server.address.replace("//", "//me:secret@"))) as file:
            assert file.pread(0, 5) == CONTENT[:5]
        assert "Authorization" in server.requests[0].headers
        assert "Authorization" not in other.requests[0].headers


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("/image", "redirected more than 5 times"),
        ("file:///etc/passwd", "the protocol 'file' is not followed"),
        ("ftp://127.0.0.1/x", "the protocol 'ftp' is not followed"),
        ("", "without saying where to"),
    ],
)
def test_a_redirection_to_elsewhere_is_refused(server: WebServer, location: str, problem: str):
    server.answer = lambda handler, asked: handler.send(302, Location=location)
    refused(server, problem)
    assert len(server.requests) <= 6


# Servers that do it badly.


@pytest.mark.parametrize("status", [404, 403, 500, 204])
def test_an_error_of_the_server_is_told(server: WebServer, status: int):
    server.answer = lambda handler, asked: handler.send(status)
    refused(server, f"The requested URL returned error: {status}")


def test_a_server_without_ranges_is_refused(server: WebServer):
    server.answer = lambda handler, asked: handler.send(200, CONTENT)
    refused(server, r"Server does not support 'range' \(byte ranges\)\.")


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"Content_Range": None}, "does not say which range"),
        ({"Content_Range": "bytes 0-262143/*"}, "Server didn't report file size."),
        ({"Content_Range": "bytes 5-262148/1024017"}, "sent bytes 5 to 262149 where 0 to 262144"),
        ({"Content_Range": "bytes 0-262143/100"}, "says that it sent bytes 0 to 262144 of 100"),
        ({"Content_Range": f"bytes 0-262143/{1 << 63}"}, "says that it sent"),
        ({"Content_Range": "bytes 0-262143/1" + "0" * 30}, "does not say which range"),
        ({"Content_Range": "bytes 0-٢/٣".encode().decode("latin-1")}, "does not say which range"),
        ({"Content_Length": 100}, "says that it sends 100 bytes for a range of 262144"),
        ({"Content_Length": 1 << 40}, "says that it sends 1099511627776 bytes"),
        ({"Content_Encoding": "gzip"}, "the encoding 'gzip'"),
        ({"Content_Type": "multipart/byteranges; boundary=x", "Content_Range": None}, "does not say which range"),
    ],
)
def test_an_answer_that_contradicts_the_request_is_refused(server: WebServer, headers: dict[str, object], problem: str):
    server.answer = lambda handler, asked: handler.send_range(CONTENT, asked, Connection="close", **headers)
    refused(server, problem)


def test_a_server_that_closes_early_is_an_error(server: WebServer):
    def bad(handler: Handler, asked: Asked) -> None:
        handler.send(206, b"x" * 1000, Content_Length=asked.length, Content_Range=place(asked), ETag='"one"')
        handler.close_connection = True

    fails_to_read(server, bad, "closed the connection after 1000 of 262144 bytes")


def place(asked: Asked) -> str:
    return f"bytes {asked.start}-{asked.end - 1}/{len(CONTENT)}"


@pytest.mark.parametrize(("begin", "end"), [(512, 512), (0, -512), (0, 512)], ids=["another", "less", "more"])
def test_a_server_that_sends_another_range_is_an_error(server: WebServer, begin: int, end: int):
    def bad(handler: Handler, asked: Asked) -> None:
        assert asked.end is not None
        handler.send_range(CONTENT, replace(asked, start=asked.start + begin, end=asked.end + end))

    fails_to_read(server, bad, "the server sent bytes .* where .* were asked for")


@pytest.mark.parametrize("how", ["until closed", "in chunks"])
def test_a_server_that_sends_more_is_an_error(server: WebServer, how: str):
    def bad(handler: Handler, asked: Asked) -> None:
        body = b"x" * (asked.length + 1)
        known = {"Content_Range": place(asked), "ETag": '"one"', "Content_Length": None}
        if how == "in chunks":
            handler.send(206, b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), Transfer_Encoding="chunked", **known)
        else:
            handler.send(206, body, Connection="close", **known)

    fails_to_read(server, bad, "sent more than the 262144 bytes")


def test_chunks_that_end_early_are_an_error(server: WebServer):
    def bad(handler: Handler, asked: Asked) -> None:
        known = {"Content_Range": place(asked), "ETag": '"one"', "Content_Length": None, "Transfer_Encoding": "chunked"}
        handler.send(206, b"ffff\r\nabc", **known)
        handler.close_connection = True

    fails_to_read(server, bad, "closed the connection inside of its answer")


def test_bytes_that_nobody_asked_for_are_not_taken_for_the_next_answer(server: WebServer):
    def answer(handler: Handler, asked: Asked) -> None:
        handler.send_range(CONTENT, asked)
        handler.wfile.write(b"HTTP/1.1 206 Partial\r\nContent-Range: " + b"x" * 200_000)

    server.answer = answer
    with HttpFile.open(server.url) as file:
        time.sleep(0.05)  # they have come in
        assert file.pread(300 * KIB, 9) == CONTENT[300 * KIB : 300 * KIB + 9]


@pytest.mark.parametrize("answer", [b"", b"\xff\xfe garbage\r\n\r\n", b"HTTP/1.1 206 Partial\r\nA: " + b"x" * 70_000])
def test_what_is_no_answer_is_an_error(server: WebServer, answer: bytes):
    def bad(handler: Handler, asked: Asked) -> None:
        handler.wfile.write(answer)
        handler.close_connection = True

    fails_to_read(server, bad, "closed the connection without an answer|makes no sense")


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 206 Partial\r\n"])
def test_a_server_that_falls_silent_is_given_up(server: WebServer, impatient: None, sent: bytes):
    def bad(handler: Handler, asked: Asked) -> None:
        handler.wfile.write(sent)
        server.ended.wait(20)

    fails_to_read(server, bad, "the server sent nothing for 0.3 seconds")


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_server_that_drips_is_given_up(server: WebServer, impatient: None, part: str):
    def bad(handler: Handler, asked: Asked) -> None:
        handler.wfile.write(b"HTTP/1.1 206 Partial\r\n")
        if part == "body":
            handler.wfile.write(b'Content-Range: %s\r\nETag: "one"\r\n\r\n' % place(asked).encode())
        while not server.ended.wait(0.05):
            handler.wfile.write(b"x")

    fails_to_read(server, bad, "the answer took more than 0.9 seconds")


def test_nobody_at_the_address_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(RemoteFileError, match="Connection refused"):
            HttpFile.open(Url(f"http://127.0.0.1:{taken.getsockname()[1]}/x"))


def test_a_host_without_address_is_told():
    with pytest.raises(RemoteFileError, match="Could not resolve host"):
        HttpFile.open(Url("http://nowhere.invalid/x"))


# A file that changes meanwhile.


@pytest.mark.parametrize(
    "changed",
    [{"ETag": '"two"'}, {"ETag": None}, {"Last_Modified": "Thu, 01 Jan 1970 00:00:00 GMT"}],
    ids=["another tag", "no tag", "another time"],
)
def test_a_file_that_changes_meanwhile_is_an_error(server: WebServer, changed: dict[str, object]):
    fails_to_read(server, lambda handler, asked: handler.send_range(CONTENT, asked, **changed), "changed on the server meanwhile")


@pytest.mark.parametrize("content", [CONTENT + b"x", CONTENT[:-1], CONTENT[: 400 * KIB]], ids=["longer", "shorter", "short"])
def test_a_file_that_changes_its_length_is_an_error(server: WebServer, content: bytes):
    fails_to_read(server, lambda handler, asked: handler.send_range(content, asked), "changed on the server meanwhile")


# TLS.


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate for 127.0.0.1, which nobody vouches for."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path / "server.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run([*command, "-keyout", path, "-out", tmp_path / "c.pem"], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "c.pem").read_bytes())
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path):
    httpconnection._trusted.cache_clear()
    with serving(CONTENT, certificate) as server:
        refused(server, "certificate is not to be trusted: self-signed certificate")
        assert server.requests == []


def test_a_trusted_server_is_read_over_tls(certificate: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    httpconnection._trusted.cache_clear()
    with serving(CONTENT, certificate) as server, HttpFile.open(server.url) as file:
        assert file.pread(300 * KIB, 700 * KIB) == CONTENT[300 * KIB : 1000 * KIB]
        with serving(CONTENT) as plain:
            server.answer = lambda handler, asked: handler.send(302, Location=plain.address)
            refused(server, "from https to http")
    httpconnection._trusted.cache_clear()


def test_blocks_are_whole_parts_of_what_is_fetched():
    assert READ_AHEAD_BYTES % BLOCK_BYTES == 0
