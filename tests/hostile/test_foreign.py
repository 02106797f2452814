"""Uploads that are no disk, or that a program that guesses would take for more than a disk."""

from __future__ import annotations

import gzip
import io
import lzma
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cowherd
from tests.formats.test_probe import cloop, dmg
from tests.herd.qemu_herd import noise
from tests.images import examples
from tests.qemu import Tool

SECRET = b"TOP SECRET of the host".ljust(1024, b".")


def descriptor(extent: str) -> bytes:
    return f'CID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 2 FLAT "{extent}" 0\n'.encode()


def outcomes(path: Path, policy: str, **options) -> list[list[str]]:
    """The checks that refuse a file, and those that refuse it as a stream."""
    with path.open("rb") as stream:
        found = cowherd.inspect(path, policy=policy, **options), cowherd.inspect(stream, policy=policy, **options)
    return [[check.name for check in one.refused] for one in found]


@pytest.mark.parametrize("policy", ["untrusted", "glance"])
@pytest.mark.parametrize("said", [None, "raw", "qcow2"])
@pytest.mark.parametrize(
    ("data", "check"),
    [
        (b"version=1\n" + descriptor("/etc/passwd"), "format"),
        (b"# Disk DescriptorFile\n" + descriptor("/etc/passwd"), "format"),
        (cloop(), "format"),
        (dmg(), "single-format"),
        (dmg(200), "single-format"),
        (b"", "empty"),
        (gzip.compress(noise(5000)), "foreign-content"),
        (lzma.compress(noise(500)), "foreign-content"),
        (b"<html><body>404</body></html>", "foreign-content"),
        (b"404: Not Found\n" * 100 + b".", "foreign-content"),
    ],
    ids=["vmdk", "commented vmdk", "cloop", "dmg", "odd dmg", "empty", "gzip", "xz", "html", "text"],
)
def test_what_is_no_disk_is_refused_whatever_it_is_said_to_be(tmp_path, data, check, said, policy):
    (tmp_path / "upload").write_bytes(data)
    wanted = ["format"] if said == "qcow2" else [check]
    assert outcomes(tmp_path / "upload", policy, format=said) == [wanted, wanted]


def test_what_is_no_disk_is_refused_before_all_of_it_has_come():
    inspector = cowherd.Inspector(format="raw")
    assert not inspector.feed(gzip.compress(noise(5000))[:600])


@pytest.mark.parametrize("policy", ["untrusted", "glance"])
@pytest.mark.parametrize("size", [0, 100])
def test_a_qcow2_disk_of_no_bytes_is_refused(tmp_path, qemu_img, size, policy):
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "upload", "1M")
    with (tmp_path / "upload").open("r+b") as file:
        file.seek(24)
        file.write(size.to_bytes(8, "big"))
    assert outcomes(tmp_path / "upload", policy) == [["empty"], ["empty"]]


def test_who_trusts_an_image_is_told_and_a_feature_can_be_allowed(tmp_path):
    path = tmp_path / "upload"
    for data, feature in ((b"", "empty"), (gzip.compress(b"a disk"), "foreign-content")):
        path.write_bytes(data)
        trusted = cowherd.inspect(path, format="raw", policy="trusted")
        assert feature in [check.name for check in trusted.checks]
        assert trusted.safe
        assert cowherd.inspect(path, format="raw", allow=[feature]).safe


def test_a_disk_that_is_a_fixed_vhd_too_is_let_through_with_a_note(tmp_path, qemu_img):
    qemu_img("create", "-q", "-f", "vpc", "-o", "subformat=fixed", tmp_path / "upload", "1M")
    found = cowherd.inspect(tmp_path / "upload", format="raw")
    assert "fixed VHD" in next(check.detail for check in found.checks if check.name == "footer")
    assert found.safe


def test_a_stream_in_small_pieces_is_judged_by_its_end_too():
    data = noise(5000) + dmg(77)
    inspector = cowherd.Inspector(format="raw")
    for begin in range(0, len(data), 7):
        inspector.feed(data[begin : begin + 7])
    assert [check.name for check in inspector.finish().refused] == ["single-format"]
    assert cowherd.inspect(io.BytesIO(noise(5000)), format="raw").safe


LINES = [
    "#",
    "# Disk DescriptorFile",
    "#" * 120,
    " ",
    "   ",
    "",
    "version=1",
    "version=2",
    "version=3",
    "version=4",
    "x",
    "#\tversion=1",
]


@pytest.mark.qemu
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.sampled_from(LINES), max_size=5),
    ends=st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=5, max_size=5),
)
def test_whatever_leads_qemu_to_another_file_is_refused(tmp_path, lines, ends):
    secret, upload, leaked = tmp_path / "secret", tmp_path / "upload", tmp_path / "leaked"
    secret.write_bytes(SECRET)
    leaked.unlink(missing_ok=True)
    upload.write_bytes("".join(line + end for line, end in zip(lines, ends, strict=False)).encode() + descriptor(str(secret)))
    Tool("qemu-img").run("convert", "-O", "raw", upload, leaked)
    if leaked.exists() and leaked.read_bytes().startswith(SECRET[:20]):
        for policy in ("untrusted", "glance", "trusted"):
            for said in (None, "raw", "vmdk"):
                assert all(outcomes(upload, policy, format=said))
