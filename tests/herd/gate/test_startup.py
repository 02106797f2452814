from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cowherd.errors import HostFileError
from cowherd.herd.gate.startup import DRIFT, HARM, NOT_UNDERSTOOD, NOT_VERIFIED, UNCLEAR, check_start
from cowherd.herd.merge.merge import merge
from cowherd.herd.overlays.clone import clone
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.verify import verify
from cowherd.live.machine.drive import Below, Drive
from tests.herd.merge.herds import killed_at
from tests.herd.qemu_herd import make_base, make_overlay, noise, write
from tests.qemu import Tool
from tests.storage.hosts import loop_device

qemu_img = Tool("qemu-img")

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
    assert (found.exit_code, found.status) == (0, "attributes")
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


def test_what_is_not_understood_stops_the_start_unless_that_is_allowed(herd):
    found = check_start([Drive("x", None, unknown="why")])
    assert (found.exit_code, found.answers[0].status, found.answers[0].detail) == (UNCLEAR, NOT_UNDERSTOOD, "why")
    assert check_start([Drive("x", None, unknown="why")], allow_unknown=True).exit_code == 0


def test_what_is_not_understood_hides_nothing_that_is_worse(herd):
    found = check_start([drive(herd / "base", unknown="why")], allow_unknown=True)
    assert found.exit_code == HARM


def test_a_file_read_as_raw_hides_nothing_of_a_chain_through_it(herd):
    write_behind_its_back(herd / "base")
    raw = [Drive("kernel", herd / name, "raw", writable=False, plain=True) for name in ("top", "middle", "base")]
    found = check_start([*raw, drive(herd / "top")])
    assert found.answers[-1].status == "touched"


def test_a_log_takes_the_place_of_no_sealed_image(herd):
    assert check_start([Drive("-D base", herd / "base", "raw", plain=True)]).exit_code == HARM
    (herd / "log").write_text("started")
    assert check_start([Drive("-D log", herd / "log", "raw", plain=True)]).exit_code == 0


def test_a_log_that_is_not_there_yet_is_not_worth_a_line(tmp_path):
    assert check_start([Drive("-D log", tmp_path / "log", "raw", plain=True)]).answers == ()


def test_memory_in_a_file_is_no_sealed_base_and_none_that_overlays_stand_on(herd):
    assert answer(herd / "base", facts={"format": "raw"}).status == "base-sealed"
    assert answer(herd / "middle", facts={"format": "raw"}).status == "base-in-use"


def test_a_directory_that_the_guest_writes_to_holds_no_sealed_image(herd):
    assert answer(herd, facts={"format": "raw"}).status == "base-sealed"
    found = answer(herd, facts={"format": "raw", "writable": False})
    assert (found.status, found.exit_code) == (NOT_VERIFIED, 0)


def test_a_base_behind_a_network_leaves_the_image_itself_to_be_judged(herd):
    away = {"ends": True, "below_remote": "nbd://x"}
    assert answer(herd / "middle", facts=away).status == "base-in-use"
    found = answer(herd / "top", facts=away)
    assert (found.status, found.detail) == (NOT_VERIFIED, "its backing file is nbd://x")


def test_a_base_named_without_its_format_has_the_recorded_one(herd):
    assert answer(herd / "top", facts={"below": (Below(None, None), Below(herd / "base", None))}).status == "ok"
    write_behind_its_back(herd / "base")
    assert answer(herd / "top", facts={"below": (Below(None, None), Below(herd / "base", None))}).status == "touched"


@pytest.mark.parametrize("image_format", ["qed", "qcow"])
def test_the_bases_of_other_formats_are_followed(image_format, tmp_path):
    base = make_base(tmp_path / "base", noise(1 << 20))
    seal(base)
    qemu_img("create", "-q", "-f", image_format, "-b", base, "-F", "qcow2", tmp_path / "o")
    on_it = [drive(tmp_path / "o", format=None)]
    assert check_start(on_it).exit_code == 0
    write_behind_its_back(base)
    assert [(row.status, row.image) for row in check_start(on_it).refusals] == [("touched", base)]


def test_the_parent_of_a_vmdk_is_followed(tmp_path):
    qemu_img("create", "-q", "-f", "vmdk", tmp_path / "base", "1M")
    qemu_img("create", "-q", "-f", "vmdk", "-b", tmp_path / "base", "-F", "vmdk", tmp_path / "o")
    assert answer(tmp_path / "o", facts={"format": None}).drive.below[0].path == tmp_path / "base"
    (tmp_path / "base").unlink()
    assert answer(tmp_path / "o", facts={"format": None}).status == "missing-base"


def test_the_parts_of_an_image_are_judged_too(tmp_path):
    for name, options in (("o.qcow2", f"data_file={tmp_path}/data"), ("o.vmdk", "subformat=twoGbMaxExtentFlat")):
        image_format = name.partition(".")[2]
        qemu_img("create", "-q", "-f", image_format, "-o", options, tmp_path / name, "1M")
        part = tmp_path / ("data" if image_format == "qcow2" else "o-f001.vmdk")
        seal(part)
        found = check_start([drive(tmp_path / name, format=image_format)])
        assert [(row.status, row.image) for row in found.refusals] == [("base-sealed", part)]


def test_an_external_data_file_that_can_t_be_followed_is_not_understood(tmp_path):
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/data", tmp_path / "o", "1M")
    image = (tmp_path / "o").read_bytes()
    name = os.fsencode(tmp_path / "data")
    (tmp_path / "o").write_bytes(image.replace(name, b"nbd:" + b"x" * (len(name) - 4)))
    assert [row.status for row in check_start([drive(tmp_path / "o")]).refusals] == [NOT_UNDERSTOOD]
