"""Images of formats that nobody here reads: sealed by their files' bytes, guarded like others, nothing invented about them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import cowherd
from cowherd.cli.guard.main import main
from cowherd.errors import BaseInUse, BaseSealed
from cowherd.herd.impact.impact import impact
from cowherd.herd.impact.verdict import UNREADABLE
from cowherd.herd.records.digest import digest_disk
from cowherd.herd.records.sealfile import read_digests, read_record
from cowherd.herd.records.sealplace import seal_path
from cowherd.herd.records.status import Status
from cowherd.herd.repair.repair import repair
from cowherd.herd.report.tree import tree
from cowherd.herd.seals.adopt import adopt
from cowherd.herd.seals.opaque import OpaqueImage
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.seals.verify import verify
from cowherd.herd.trash.trash import trash
from cowherd.herd.watch.once import check_once
from cowherd.image.open import open_disk
from cowherd.storage.protection import Protection
from tests.herd.qemu_herd import make_overlay, qemu_img, qemu_io

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
SECRET = ("--object", "secret,id=key,data=secret")
FORMATS: dict[str, tuple[str, ...]] = {
    "vmdk": (),
    "vdi": (),
    "vhdx": (),
    "vpc": (),
    "qed": (),
    "parallels": (),
    "luks": (*SECRET, "-o", "key-secret=key,iter-time=10"),
    "qcow2": (*SECRET, "-o", "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10"),
}


@pytest.fixture(params=FORMATS)
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An image of a format that cowherd does not open."""
    path = tmp_path / f"base.{request.param}"
    done = qemu_img.run("create", "-q", "-f", request.param, *FORMATS[request.param], path, 8 * MIB)
    if done.returncode:
        pytest.skip(f"qemu-img makes none: {done.stderr}")
    return path


def format_of(base: Path) -> str:
    return base.suffix[1:]


@pytest.fixture
def overlay(base: Path) -> Path:
    """An overlay of it."""
    path = base.with_name("overlay.qcow2")
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", base, "-F", format_of(base), path, 8 * MIB)
    return path


def spoil(base: Path) -> None:
    """Changes bytes in the middle of a file."""
    with base.open("r+b") as file:
        file.seek(70000)
        file.write(b"changed")


def test_it_is_sealed_by_the_bytes_of_its_file(base: Path):
    sealed = seal(base, level=Protection.READONLY)
    assert (sealed.record.of_file, sealed.record.format, sealed.record.level) == (True, format_of(base), Protection.READONLY)
    record, digests = read_digests(sealed.seal)
    with open_disk(base, format="raw") as disk:
        of_disk = digest_disk(disk)
    assert (digests.digests == of_disk.digests).all()
    assert record.content_digest != of_disk.content_digest  # a raw image of the same bytes is not the same disk
    assert [row.status for row in verify([base], full=True)] == [Status.OK]
    assert not seal(base).anew


def test_a_change_shows(base: Path, overlay: Path):
    seal(base)
    adopt([overlay])
    assert {row.status for row in verify([overlay], full=True)} == {Status.OK}
    spoil(base)
    assert Status.TOUCHED in {row.status for row in verify([overlay])}
    assert Status.DRIFTED in {row.status for row in verify([overlay], full=True)}


def test_what_changes_it_is_refused(base: Path, overlay: Path):
    seal(base)
    with pytest.raises(BaseSealed):
        cowherd.create(base, MIB)
    with pytest.raises(BaseSealed):
        cowherd.convert(overlay.with_name("nosuch"), base)
    with pytest.raises(BaseSealed, match="overlay"):
        trash([base])
    unseal(base, force=True)
    with pytest.raises(BaseInUse):
        trash([base])


def test_what_it_does_to_overlays_is_not_invented(base: Path, overlay: Path):
    seal(base)
    assert [hit.verdict for hit in impact(base).overlays] == ["intact"]
    spoil(base)
    found = impact(base)
    assert [hit.verdict for hit in found.overlays] == [UNREADABLE]
    assert found.changed_bytes
    for preserve in (False, True):
        with pytest.raises(OpaqueImage, match="only the file's bytes"):
            repair(base, preserve=preserve)


def test_a_copy_put_in_its_place_is_as_sealed(base: Path):
    shutil.copy(base, base.with_name("copy"))
    seal(base)
    spoil(base)
    base.write_bytes(base.with_name("copy").read_bytes())
    (row,) = verify([base], full=True, refresh_seals=True)
    assert row.status is Status.OK
    assert [row.status for row in verify([base])] == [Status.OK]


def test_one_that_is_gone_is_not_made_anew(base: Path):
    seal(base)
    base.unlink()
    with pytest.raises(OpaqueImage, match="make anew"):
        repair(base)


def test_tree_and_impact_show_it(base: Path, overlay: Path, capsys: pytest.CaptureFixture[str]):
    seal(base)
    (root,) = [node for node in tree([base.parent]).nodes if node.image.path == base]
    assert root.level == "recorded"
    assert main(["tree", str(base.parent)]) == 0
    spoil(base)
    capsys.readouterr()
    assert main(["impact", "--json", str(base)]) == 4
    assert json.loads(capsys.readouterr().out)["overlays"][0]["verdict"] == UNREADABLE


def test_the_watch_reads_it(base: Path):
    seal(base)
    spoil(base)
    (done,) = check_once([base.parent], None, [])
    assert not done.fine


def test_the_oldest_qcow_is_sealed_too(tmp_path: Path):
    qemu_img("create", "-q", "-f", "qcow", tmp_path / "base.qcow", MIB)
    assert seal(tmp_path / "base.qcow").record.of_file
    assert [row.status for row in verify([tmp_path / "base.qcow"], full=True)] == [Status.OK]


def test_a_plain_seal_says_nothing_of_it(tmp_path: Path):
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "base.qcow2", MIB)
    make_overlay(tmp_path / "overlay.qcow2", tmp_path / "base.qcow2")
    qemu_io("-f", "qcow2", "-c", "write -q 0 64k", tmp_path / "overlay.qcow2")
    seal(tmp_path / "base.qcow2")
    assert not read_record(seal_path(tmp_path / "base.qcow2")).of_file
