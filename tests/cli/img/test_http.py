"""Images over HTTP: what reads takes them, what writes does not, and no name stored in an image leads anywhere."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import cowherd
from cowherd.storage.httpfile import READ_AHEAD_BYTES
from cowherd.urls import Url
from tests.cli.img.both import Outcome, cowherd_img, reference, same
from tests.webserver import WebServer, serving

KIB, MIB = 1 << 10, 1 << 20
GENERATOR = random.Random(5)
NOT_WRITTEN = "an image can be read over HTTP, and not be written to"


def an_image(path: Path, kind: str) -> Path:
    """A disk of 8 MiB with some data: "raw", or "qcow2" with compressed clusters and clusters in any order, or "plain" ones."""
    cowherd.create(path, 8 * MIB, format="raw" if kind == "raw" else "qcow2")
    with cowherd.open(path, writable=True) as disk:
        for number in GENERATOR.sample(range(128), 60):
            disk.write(number * 64 * KIB, GENERATOR.randbytes(64 * KIB))
        if kind == "qcow2":
            disk.write_compressed(5 * 64 * KIB, b"c" * 64 * KIB)
    return path


@pytest.fixture(params=["raw", "plain", "qcow2"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return an_image(tmp_path / "image", request.param)


@pytest.fixture
def server(image: Path) -> Iterator[WebServer]:
    with serving(image.read_bytes()) as server:
        yield server


def alike(server: WebServer, image: Path, *words: str) -> Outcome:
    """Runs a command on the address and on the file ("IMAGE"), and expects the same but for the name."""
    over_http = cowherd_img(*(server.address if word == "IMAGE" else word for word in words))
    of_file = cowherd_img(*(str(image) if word == "IMAGE" else word for word in words))
    assert over_http.out == of_file.out.replace(str(image), server.address)
    assert (over_http.err, over_http.code) == (of_file.err.replace(str(image), server.address), of_file.code)
    return over_http


@pytest.mark.parametrize(
    "words",
    [
        ["check", "IMAGE"],
        ["map", "IMAGE"],
        ["map", "--output=json", "IMAGE"],
        ["map", "-s", "1M", "-l", "128k", "IMAGE"],
        ["measure", "-O", "qcow2", "IMAGE"],
        ["measure", "--output=json", "IMAGE"],
        ["snapshot", "-l", "IMAGE"],
        ["compare", "IMAGE", "IMAGE"],
        ["info", "-f", "nonsense", "IMAGE"],
        ["convert", "-l", "none", "IMAGE", "new"],
    ],
    ids=" ".join,
)
def test_a_command_that_reads_says_of_an_address_what_it_says_of_the_file(words: list[str], server: WebServer, tmp_path: Path):
    image = tmp_path / "image"
    if "map" in words or "measure" in words:
        image.write_bytes(image.read_bytes())  # a server tells of no holes
    alike(server, image, *words)


def test_info_knows_no_disk_size(server: WebServer, image: Path):
    found = cowherd_img("info", server.address)
    assert f"image: {server.address}\n" in found.out
    assert found.out.count("disk size: unavailable\n") == 2
    assert "    protocol type: http\n" in found.out
    document = json.loads(cowherd_img("info", "--output=json", "--backing-chain", server.address).out)[0]
    child = {"children": [], "virtual-size": -(-image.stat().st_size // 512) * 512, "filename": server.address, "format": "http"}
    assert document["children"] == [{"name": "file", "info": child}]
    assert "actual-size" not in document


@pytest.mark.parametrize(
    "options", [("-O", "raw"), ("-O", "qcow2"), ("-O", "qcow2", "-c"), ("-O", "raw", "-S", "0")], ids=" ".join
)
def test_a_conversion_brings_the_content(options: tuple[str, ...], server: WebServer, image: Path, tmp_path: Path):
    assert cowherd_img("convert", *options, server.address, tmp_path / "new") == Outcome(0, "", "")
    assert cowherd.compare(image, tmp_path / "new").identical
    assert cowherd_img("compare", server.address, tmp_path / "new") == Outcome(0, "Images are identical.\n", "")


def test_a_conversion_over_a_backing_file_of_this_host_leaves_out_what_that_has(server: WebServer, image: Path, tmp_path: Path):
    cowherd.create(tmp_path / "base", 8 * MIB)
    words = ("convert", "-O", "qcow2", "-B", tmp_path / "base", "-F", "qcow2", server.address, tmp_path / "new")
    assert cowherd_img(*words) == Outcome(0, "", "")
    assert cowherd.compare(image, tmp_path / "new").identical


def test_a_conversion_with_n_and_one_of_two_sources(server: WebServer, image: Path, tmp_path: Path):
    cowherd.create(tmp_path / "new", 16 * MIB, format="raw")
    assert cowherd_img("convert", "-n", server.address, image, tmp_path / "new") == Outcome(0, "", "")
    with cowherd.open(image) as disk:
        assert (tmp_path / "new").read_bytes() == 2 * disk.read(0, 8 * MIB)


def test_dd_copies_a_part(server: WebServer, image: Path, tmp_path: Path):
    done = cowherd_img("dd", "bs=64k", "skip=3", "count=50", f"if={server.address}", f"of={tmp_path / 'new'}")
    assert done == Outcome(0, "", "")
    with cowherd.open(image) as disk:
        assert (tmp_path / "new").read_bytes() == disk.read(3 * 64 * KIB, 47 * 64 * KIB)


def test_a_difference_is_found(server: WebServer, image: Path, tmp_path: Path):
    cowherd.convert(image, tmp_path / "other")
    with cowherd.open(tmp_path / "other", format="raw", writable=True) as disk:
        disk.write(7 * MIB + 1000, b"differs")
    done = cowherd_img("compare", tmp_path / "other", server.address)
    assert done == Outcome(1, f"Content mismatch at offset {7 * MIB + 512}!\n", "")


def test_clusters_in_any_order_take_few_requests(tmp_path: Path):
    with serving(an_image(tmp_path / "image", "plain").read_bytes()) as server:
        cowherd_img("convert", server.address, tmp_path / "new")
        data = [asked for asked in server.requests if asked.length > READ_AHEAD_BYTES]
        assert len(data) <= 2  # of 4 MiB of clusters, which lie together in no two places
        assert len(server.requests) < 12


def test_python_opens_an_address_as_such(server: WebServer, image: Path, tmp_path: Path):
    cowherd.convert([Url(server.address)], tmp_path / "new")
    assert cowherd.compare(Url(server.address), tmp_path / "new").identical
    assert cowherd.measure(Url(server.address), target_format="raw").required == 8 * MIB
    with pytest.raises(cowherd.CowherdError):
        cowherd.compare(server.address, tmp_path / "new")  # text names a file


# What is refused.


@pytest.mark.parametrize(
    "words",
    [
        ["resize", "ADDRESS", "16M"],
        ["rebase", "-u", "-b", "", "ADDRESS"],
        ["commit", "ADDRESS"],
        ["convert", "-n", "plain", "ADDRESS"],
        ["create", "-f", "qcow2", "ADDRESS", "1M"],
        ["convert", "plain", "ADDRESS"],
        ["dd", "if=plain", "of=ADDRESS"],
        ["create", "-f", "qcow2", "-b", "ADDRESS", "-F", "qcow2", "new"],
    ],
    ids=" ".join,
)
def test_nothing_is_written_to_an_address(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    an_image(tmp_path / "plain", "raw")
    with serving(b"x" * 512) as server:
        address = server.address.replace("//", "//me:secret@")
        done = cowherd_img(*(word.replace("ADDRESS", address) for word in words))
        assert done.code == 1
        problems = (NOT_WRITTEN, "Protocol driver 'http' does not support image creation", "Protocol 'http' is not supported")
        assert any(problem in done.err for problem in problems), done.err
        assert "secret" not in done.out + done.err
        assert server.requests == []
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


@pytest.mark.parametrize(
    "name", ["{other}", "base.qcow2", "/etc/hostname", 'json:{"driver":"http","url":"{other}"}', "file:/etc/hostname"]
)
@pytest.mark.parametrize(
    "words", [["info", "--backing-chain"], ["map"], ["compare", "plain"], ["convert", "-O", "raw"]], ids=" ".join
)
def test_an_image_over_http_leads_to_no_other_file(words: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    an_image(tmp_path / "plain", "raw")
    with serving(b"y" * 512) as other:
        name = name.replace("{other}", other.address)
        cowherd.create(tmp_path / "overlay", MIB, backing=name, backing_format="raw", unsafe=True)
        with serving((tmp_path / "overlay").read_bytes()) as server:
            done = cowherd_img(*words, server.address, *(["new"] if words[0] == "convert" else []))
            assert done.code == (2 if words[0] == "compare" else 1)
            assert "an image that is read over HTTP leads to no other file" in done.err
            assert all(asked.target == "/image" for asked in server.requests)
        assert other.requests == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("words", [["info", "--backing-chain"], ["map"], ["check"]], ids=" ".join)
def test_a_name_stored_in_an_image_of_this_host_is_no_address(words: list[str], tmp_path: Path):
    with serving(b"y" * 512) as other:
        cowherd.create(tmp_path / "overlay", MIB, backing=other.address, backing_format="raw", unsafe=True)
        done = cowherd_img(*words, tmp_path / "overlay")
        assert "the protocol 'http' is not supported" in done.err
        assert other.requests == []


def test_the_name_of_a_backing_file_is_told(tmp_path: Path):
    cowherd.create(tmp_path / "overlay", MIB, backing="base.qcow2", backing_format="qcow2", unsafe=True)
    with serving((tmp_path / "overlay").read_bytes()) as server:
        told = f"backing file: base.qcow2 (actual path: {server.address.removesuffix('image')}base.qcow2)\n"
        assert told in cowherd_img("info", server.address).out


def test_a_problem_is_told_with_the_address_and_without_what_is_secret(server: WebServer):
    server.answer = lambda handler, asked: handler.send(404)
    secret = server.address.replace("//", "//me:secret@") + "?signature=secret"
    done = cowherd_img("convert", secret, "new")
    assert done.err == f"cowherd-img: Could not open '{server.address}?...': The requested URL returned error: 404\n"
    assert done.code == 1


def test_a_server_that_ends_in_the_middle_ends_a_conversion(server: WebServer, tmp_path: Path):
    def answer(handler, asked):
        if asked.start:
            handler.close_connection = True
        else:
            handler.send_range(server.content, asked)

    server.answer = answer
    done = cowherd_img("convert", "-O", "qcow2", server.address, tmp_path / "new")
    assert done.code == 1
    assert "the server closed the connection without an answer" in done.err


def test_words_are_addresses_and_no_paths(server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A merge's journal beside a file of such a name is not one beside the address."""
    monkeypatch.chdir(tmp_path)
    journal = tmp_path / f"{server.address}.merge"
    journal.parent.mkdir(parents=True)
    journal.touch()
    assert cowherd_img("info", server.address).err == ""


# Beside QEMU, whose curl driver is a package of its own.


@pytest.mark.qemu
@pytest.mark.parametrize(
    "command",
    [["info"], ["info", "--output=json"], ["check"], ["map", "--output=json"], ["measure", "-O", "qcow2"]],
    ids=" ".join,
)
def test_qemu_says_the_same(command: list[str], server: WebServer):
    def answer(handler, asked):
        handler.send_range(server.content, asked, Accept_Ranges="bytes")

    server.answer = answer
    if "load module" in reference("info", server.address).err:
        pytest.skip("QEMU's curl driver is not installed")
    same(*command, server.address)


@pytest.mark.qemu
def test_qemu_refuses_a_server_without_ranges_in_the_same_words(server: WebServer):
    server.answer = lambda handler, asked: handler.send(200, server.content)
    theirs = reference("info", server.address)
    if "load module" in theirs.err:
        pytest.skip("QEMU's curl driver is not installed")
    ours = cowherd_img("info", server.address, program="qemu-img")
    assert (ours.code, ours.err) == (theirs.code, theirs.err.replace("CURL: Error opening file: ", ""))
