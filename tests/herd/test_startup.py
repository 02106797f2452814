from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cowherd.errors import HostFileError
from cowherd.herd.clone import clone
from cowherd.herd.merging.merge import merge
from cowherd.herd.seal import seal
from cowherd.herd.startup import DRIFT, HARM, NOT_VERIFIED, check_start
from cowherd.herd.verify import verify
from cowherd.live.machine.drive import Below, Drive
from tests.herd.merging import killed_at
from tests.herd.qemu_herd import make_base, make_overlay, noise, write
from tests.storage.hosts import loop_device

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.fixture
def herd(tmp_path):
    """A sealed base <- middle <- top, and base <- other."""
    make_base(tmp_path / "base", noise(1 << 20))
    seal(tmp_path / "base")
    for name, under in (("middle", "base"), ("top", "middle"), ("other", "base")):
        clone(tmp_path / under, tmp_path / name, seal_base=False)
    return tmp_path


def drive(path: Path, **facts) -> Drive:
    return Drive("vda", path, **{"format": "qcow2", **facts})


def answer(path: Path, **options):
    facts = options.pop("facts", {})
    found = check_start([drive(path, **facts)], **options)
    (only,) = found.answers
    assert only.exit_code == found.exit_code
    return only


def write_behind_its_back(path: Path, offset: int = -100) -> None:
    with path.open("r+b") as file:
        file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
        file.write(b"drift")


def test_an_intact_chain_may_start(herd):
    assert answer(herd / "top").exit_code == 0
    assert answer(herd / "top", full=True).status == "ok"


def test_a_machine_without_seals_may_start(tmp_path):
    make_base(tmp_path / "b", noise(1 << 16))
    make_overlay(tmp_path / "o", "b")
    found = answer(tmp_path / "o")
    assert (found.exit_code, found.status) == (0, "unsealed")


def test_a_base_that_was_written_to_stops_everything_above_it(herd):
    write_behind_its_back(herd / "base")
    found = answer(herd / "top")
    assert (found.exit_code, found.status, found.image) == (DRIFT, "touched", herd / "base")


def test_a_base_that_is_gone_stops_the_start(herd):
    (herd / "middle").unlink()
    found = answer(herd / "top")
    assert (found.exit_code, found.status) == (DRIFT, "missing-base")


def test_a_base_that_was_replaced_stops_the_start(herd):
    shutil.copy(herd / "base", herd / "new")
    os.replace(herd / "new", herd / "base")
    assert answer(herd / "top").status == "replaced"


def test_an_interrupted_merge_stops_the_start_of_all_that_it_concerns(herd):
    write(herd / "middle", "write -P 1 0 64k")
    assert killed_at(12, lambda: merge(herd / "middle", strategy="preserve"))
    assert {answer(herd / name).status for name in ("middle", "top", "other")} == {"merge-interrupted"}


def test_attributes_that_changed_are_let_through_and_said(herd):
    (herd / "base").chmod(0o600)
    found = answer(herd / "top")
    assert (found.exit_code, found.status) == (0, "touched")
    assert "let through" in found.detail


def test_strict_refuses_changed_attributes(herd):
    (herd / "base").chmod(0o600)
    found = answer(herd / "top", strict=True)
    assert (found.exit_code, found.status, found.image) == (DRIFT, "touched", herd / "base")


def test_full_lets_a_touched_base_through_whose_content_is_as_sealed(herd):
    os.utime(herd / "base")
    assert answer(herd / "top").exit_code == DRIFT
    assert answer(herd / "top", full=True).exit_code == 0


def test_full_finds_what_a_time_that_was_set_back_hides(herd):
    before = os.stat(herd / "base")
    write_behind_its_back(herd / "base")
    os.utime(herd / "base", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert answer(herd / "top").exit_code == 0
    assert answer(herd / "top", full=True).status == "drifted"


def test_changed_attributes_hide_nothing_that_is_worse_above(herd):
    base = make_base(herd / "elsewhere", noise(1 << 20, 5))
    seal(base)
    base.chmod(0o600)
    found = answer(herd / "middle", facts={"below": (Below(base, "qcow2"),)})
    assert (found.exit_code, found.status) == (DRIFT, "binding-mismatch")


def test_a_base_named_in_the_description_is_the_one_that_is_checked(herd):
    copy = shutil.copy(herd / "base", herd / "twin")
    seal(copy)
    write_behind_its_back(herd / "base")
    assert answer(herd / "middle", facts={"below": (Below(Path(copy), "qcow2"),)}, dependents=False).exit_code == 0


def test_a_named_base_that_is_not_there_stops_the_start(herd):
    assert answer(herd / "middle", facts={"below": (Below(herd / "none", "qcow2"),)}).status == "missing-base"


def test_an_overlay_opened_without_its_base_is_refused(herd):
    assert answer(herd / "middle", facts={"ends": True}).status == "missing-base"


def test_the_format_that_the_machine_is_told_counts(herd):
    """Opened as raw, an overlay is a plain file: its header, which its guest may have written, leads nowhere."""
    write_behind_its_back(herd / "base")
    assert answer(herd / "top", facts={"format": "raw"}).exit_code == 0


@pytest.mark.parametrize("dependents", [True, False])
def test_a_sealed_image_is_not_written_to(herd, dependents):
    found = answer(herd / "base", dependents=dependents)
    assert (found.exit_code, found.status) == (HARM, "base-sealed")


def test_a_sealed_image_may_be_read(herd):
    assert answer(herd / "base", facts={"writable": False}).exit_code == 0


def test_an_unsealed_base_is_not_written_to_under_its_overlays(herd):
    found = answer(herd / "middle")
    assert (found.exit_code, found.status) == (HARM, "base-in-use")
    assert "top" in found.detail


def test_dependents_are_not_looked_for_where_that_is_not_wanted(herd):
    assert answer(herd / "middle", dependents=False).exit_code == 0


def test_what_is_not_there_is_left_to_the_machine(tmp_path):
    assert answer(tmp_path / "none").status == NOT_VERIFIED


def test_what_can_t_be_looked_at_is_an_error(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(HostFileError):
        answer(tmp_path / "loop")


def test_a_pipe_in_an_image_s_place_is_no_reason_to_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert answer(tmp_path / "pipe").status == NOT_VERIFIED


def test_every_drive_gets_its_answer(herd):
    write_behind_its_back(herd / "base")
    found = check_start([drive(herd / "top"), Drive("vdb", None, remote="nbd://x")])
    assert [row.status for row in found.answers] == ["touched", NOT_VERIFIED]
    assert [row.drive.where for row in found.refusals] == ["vda"]


def test_an_overlay_on_a_block_device_is_followed(herd):
    image = herd / "other"
    with image.open("ab") as file:
        file.truncate(4 << 20)
    with loop_device(image) as device:
        on_it = [drive(device, below=(Below(herd / "base", "qcow2"),))]
        assert [row.status for row in check_start(on_it).answers] == ["ok", "unsealed"]
        write_behind_its_back(herd / "base")
        assert check_start(on_it).answers[0].status == "touched"


def test_a_guest_that_writes_to_a_loop_device_writes_to_the_sealed_file_below(herd):
    with (herd / "raw").open("wb") as file:
        file.truncate(4 << 20)
    seal(herd / "raw")
    with loop_device(herd / "raw") as device:
        found = check_start([drive(device, format="raw")])
        assert [(row.status, row.exit_code) for row in found.answers] == [("unsealed", 0), ("base-sealed", HARM)]


def test_nothing_is_changed_by_asking(herd):
    before = {path: (path.read_bytes(), os.stat(path).st_ctime_ns) for path in herd.iterdir()}
    (verify([herd / "top"]), answer(herd / "top", full=True))
    assert {path: (path.read_bytes(), os.stat(path).st_ctime_ns) for path in herd.iterdir()} == before
