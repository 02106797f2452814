"""Where backing file names lead, beside where QEMU goes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.errors import BackingFileError
from cowherd.formats.reference import BackingReference
from cowherd.image.backing import has_protocol, path_of, resolve
from cowherd.image.open import open_disk
from tests.images import KIB, MIB, Features, create_with_qemu
from tests.qemu import Tool

NEST = {"driver": "qcow2", "file": {"driver": "file", "filename": "/i/b"}}


@pytest.mark.parametrize(
    ("name", "recorded", "path", "format"),
    [
        ("base", "qcow2", "/o/base", "qcow2"),
        ("../base", None, "/o/../base", None),
        ("/abs/base", "raw", "/abs/base", "raw"),
        ("./a:b", "raw", "/o/./a:b", "raw"),
        ("dir/a:b", "raw", "/o/dir/a:b", "raw"),
        ("file:/abs/base", "raw", "/abs/base", "raw"),
        ("file:///abs/base", "raw", "///abs/base", "raw"),
        ("file:base", "raw", "base", "raw"),
        ("json:" + json.dumps(NEST), None, "/i/b", "qcow2"),
        ('json:{"driver": "qcow2", "file.driver": "file", "file.filename": "/i/b"}', None, "/i/b", "qcow2"),
        ('json:{"file.filename": "/i/b"}', "qcow2", "/i/b", "qcow2"),
        ('json:{"file": {"filename": "b", "locking": "off"}, "read-only": true}', "raw", "b", "raw"),
        ('json:{"driver": "file", "filename": "/i/b"}', None, "/i/b", "raw"),
        ('json:{"driver": "host_device", "filename": "/dev/b"}', None, "/dev/b", "raw"),
        ('json:{"driver": "raw", "file": {"driver": "host_device", "filename": "/dev/b"}}', None, "/dev/b", "raw"),
        ("json:" + json.dumps(NEST), "raw", "/i/b", "raw"),
        ("b\udcff", "raw", "/o/b\udcff", "raw"),
    ],
)
def test_names_that_are_followed(name: str, recorded: str | None, path: str, format: str | None):
    assert resolve("/o/overlay", BackingReference(name, recorded)) == BackingReference(path, format)
    assert path_of("/o/overlay", BackingReference(name, recorded)) == Path(path)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "empty"),
        ("file:", "empty"),
        ("nbd:localhost:10809", "protocol 'nbd'"),
        ("nbd://localhost/x", "protocol 'nbd'"),
        ("https://example.org/x.qcow2", "protocol 'https'"),
        ("a b:c", "protocol 'a b'"),
        ("fat:rw:/", "protocol 'fat'"),
        (":x", "protocol ''"),
        ("json:", "not valid JSON"),
        ("json:[]", "not an object"),
        ('json:{"driver": ["raw"], "file": {"filename": "/b"}}', "is not supported here"),
        ("json:{}", "names no file"),
        ('json:{"driver": "qcow2"}', "names no file"),
        ('json:{"driver": "qcow2", "file": "node"}', "option 'file'"),
        ('json:{"driver": "qcow2", "file": {"driver": "nbd", "host": "x"}}', "driver 'nbd'"),
        ('json:{"driver": "qcow2", "file": {"driver": ["file"], "filename": "x"}}', "driver"),
        ('json:{"driver": "nbd", "host": "x"}', "driver 'nbd'"),
        ('json:{"driver": "blkdebug", "image": {"filename": "x"}}', "driver 'blkdebug'"),
        ('json:{"driver": "raw", "offset": 512, "file": {"filename": "x"}}', "option 'offset'"),
        ('json:{"driver": "qcow2", "backing": null, "file": {"filename": "x"}}', "option 'backing'"),
        (
            'json:{"driver": "qcow2", "backing": {"file": {"filename": "y"}}, "file": {"filename": "x"}}',
            "option 'backing.file.filename'",
        ),
        ('json:{"driver": "qcow2", "data-file": {"filename": "y"}, "file": {"filename": "x"}}', "option 'data-file.filename'"),
        ('json:{"driver": "qcow2", "file": {"filename": 7}}', "names no file"),
        ('json:{"driver": "qcow2", "file": {"filename": ""}}', "names no file"),
        ('json:{"filename": "x"}', "option 'filename'"),
        ('json:{"file": {"filename": "a\\u0000b"}}', "zero byte"),
        ("json:" + '{"a":' * 100000, "not valid JSON"),
        ("json:" + '{"a":' * 900 + "1" + "}" * 900, "JSON|option 'a.a.a"),
    ],
    ids=lambda value: value[:40],
)
def test_names_that_are_not(name: str, problem: str):
    with pytest.raises(BackingFileError, match=problem) as caught:
        resolve("/o/overlay", BackingReference(name, None))
    assert caught.value.backing == name


def test_a_file_driver_does_not_go_with_a_recorded_format():
    with pytest.raises(BackingFileError):
        resolve("/o/overlay", BackingReference('json:{"driver": "file", "filename": "/i/b"}', "qcow2"))


@given(st.text())
def test_no_name_makes_it_fail_in_another_way(name: str):
    for candidate in (name, f"json:{name}", f"file:{name}"):
        try:
            found = resolve("o", BackingReference(candidate, None))
        except BackingFileError:
            continue
        assert found.name


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_no_json_makes_it_fail_in_another_way(document: object):
    for wrapped in (document, {"file": document}, {"driver": document, "file": {"filename": document}}):
        try:
            resolve("o", BackingReference(f"json:{json.dumps(wrapped)}", None))
        except BackingFileError:
            continue


@pytest.mark.parametrize(
    ("name", "expected"), [("a:b", True), ("a/b:c", False), ("./a:b", False), (":", True), ("ab", False), ("", False)]
)
def test_a_colon_before_any_slash_makes_a_protocol(name: str, expected: bool):
    assert has_protocol(name) is expected


@pytest.mark.parametrize(
    "stored",
    [
        "base",
        "./base",
        "../images/base",
        "ABSOLUTE",
        "file:ABSOLUTE",
        "file://ABSOLUTE",
        "file:base",
        "file:images/base",
        'json:{"driver": "qcow2", "file": {"driver": "file", "filename": "ABSOLUTE"}}',
        'json:{"driver": "raw", "file": {"driver": "file", "filename": "ABSOLUTE"}}',
        'json:{"file.filename": "ABSOLUTE"}',
        'json:{"file.filename": "base"}',
        'json:{"file.filename": "images/base"}',
        'json:{"driver": "file", "filename": "ABSOLUTE"}',
        'json:{"filename": "ABSOLUTE"}',
        'json:{"driver": "qcow2", "file": "base"}',
        "base:x",
        "link",
        "",
    ],
)
@pytest.mark.parametrize("recorded", ["qcow2", "raw", None])
@pytest.mark.parametrize("opened", ["images/overlay", "elsewhere/overlay", "overlay"])
def test_qemu_goes_to_the_same_file(
    tmp_path: Path, qemu_io: Tool, monkeypatch: pytest.MonkeyPatch, stored: str, recorded: str | None, opened: str
):
    """Opened from another directory, through symbolic links that have a "base" of their own beside them, or not."""
    images, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    images.mkdir()
    elsewhere.mkdir()
    for number, base in enumerate((images / "base", elsewhere / "base", tmp_path / "images" / "base:x")):
        create_with_qemu(base, Features(), MIB)
        with open_disk(base, format="qcow2", writable=True) as disk:
            disk.write(0, bytes([number + 1]) * 64 * KIB)
    (images / "link").symlink_to("base")
    create_with_qemu(images / "overlay", Features(), MIB)
    (elsewhere / "overlay").symlink_to("../images/overlay")
    (tmp_path / "overlay").symlink_to("images/overlay")
    with open_disk(images / "overlay", format="qcow2", writable=True) as disk:
        disk.set_backing(BackingReference(stored.replace("ABSOLUTE", str(images / "base")), recorded))
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "theirs"
    done = Tool("qemu-img").run("convert", "-f", "qcow2", "-O", "raw", opened, target)
    if done.returncode:
        with pytest.raises(BackingFileError):
            open_disk(opened, format="qcow2")
        return
    with open_disk(opened, format="qcow2") as disk:
        assert disk.read(0, MIB) == target.read_bytes()


def test_a_relative_overlay_keeps_a_relative_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So that names in messages are those that the user knows."""
    monkeypatch.chdir(tmp_path)
    assert resolve("overlay", BackingReference("base", None)).name == "base"
    assert resolve("images/overlay", BackingReference("base", None)).name == "images/base"
    assert not os.path.isabs(path_of(Path("images/overlay"), BackingReference("../base", None)))
