from __future__ import annotations

import contextlib
import os
import shutil

import pytest

from cowherd.errors import HostFileError
from cowherd.herd.overlays.clone import clone
from cowherd.herd.records.binding import EXTENSION_TYPE, write_binding
from cowherd.herd.records.sealplace import seal_path
from cowherd.herd.records.status import Status
from cowherd.herd.seals import quick_check as conditions
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.seals.verify import verify
from cowherd.image import open as opening
from cowherd.image.open import open_disk
from tests.herd.qemu_herd import make_base, make_overlay, noise, qemu_img, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20


@pytest.fixture
def herd(tmp_path):
    """A sealed base, and a bound overlay of it."""
    make_base(tmp_path / "base.qcow2", noise(MIB))
    clone(tmp_path / "base.qcow2", tmp_path / "o.qcow2")
    return tmp_path


def statuses(*images, **options) -> dict[str, str]:
    return {row.path.name: row.status.value for row in verify(images, **options)}


def both(herd, **options) -> tuple[str, str]:
    found = statuses(herd=[herd], **options)
    return found["base.qcow2"], found["o.qcow2"]


def test_what_is_as_sealed_is_ok(herd):
    assert both(herd) == both(herd, full=True) == ("ok", "ok")


def test_what_has_no_seal_is_unsealed(tmp_path):
    make_base(tmp_path / "base.qcow2", noise(65536))
    make_overlay(tmp_path / "o.qcow2", "base.qcow2")
    assert both(tmp_path) == both(tmp_path, full=True) == ("unsealed", "unsealed")


def test_a_base_that_was_written_to_is_touched_and_in_full_drifted(herd):
    write(herd / "base.qcow2", "write -P 1 0 64k")
    assert both(herd) == ("touched", "touched")
    assert both(herd, full=True) == ("drifted", "drifted")
    row = verify(herd=[herd], full=True)[0]
    assert row.changed_bytes == 65536


def test_a_base_that_was_only_touched_is_ok_in_full_and_touched_until_refreshed(herd):
    os.utime(herd / "base.qcow2")
    before = seal_path(herd / "base.qcow2").read_bytes()
    assert both(herd, full=True) == ("ok", "ok")
    assert seal_path(herd / "base.qcow2").read_bytes() == before
    assert both(herd) == ("touched", "touched")
    assert both(herd, full=True, refresh_seals=True) == ("ok", "ok")
    assert both(herd) == ("ok", "ok")


def test_a_forged_time_is_still_touched(herd):
    base = herd / "base.qcow2"
    info = base.stat()
    write(base, "write -P 1 0 64k")
    os.utime(base, ns=(info.st_mtime_ns, info.st_mtime_ns))  # as touch -d does
    assert both(herd) == ("touched", "touched")


def test_a_perfectly_forged_time_looks_like_attributes_and_is_found_in_full(herd):
    base = herd / "base.qcow2"
    info = base.stat()
    write(base, "write -P 1 0 64k")
    os.utime(base, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert both(herd) == ("attributes", "attributes")
    assert both(herd, full=True) == ("drifted", "drifted")


def test_attributes_alone_are_a_status_of_their_own_unless_strictness_is_asked_for(herd):
    base = herd / "base.qcow2"
    mode = base.stat().st_mode
    base.chmod(0o600)
    base.chmod(mode)
    rows = verify(herd=[herd])
    assert [row.status for row in rows] == ["attributes", "attributes"]
    assert all(row.status.is_fine for row in rows)
    assert [row.status for row in verify(herd=[herd], strict=True)] == ["touched", "touched"]
    assert both(herd, full=True) == ("ok", "ok")


def test_looking_leaves_the_time_at_which_a_base_was_last_read_alone(herd):
    base = herd / "base.qcow2"
    os.utime(base, ns=(1, 1))
    verify(herd=[herd])
    assert base.stat().st_atime_ns == 1


def test_a_base_that_others_stand_on_must_have_a_seal_where_that_is_asked_for(herd):
    unseal(herd / "base.qcow2", force=True)
    write_binding(herd / "o.qcow2", None)
    assert [row.status for row in verify(herd=[herd])] == ["unsealed", "unsealed"]
    assert [row.status for row in verify(herd=[herd], require_sealed=True)] == ["unvouched", "unvouched"]


def test_a_base_that_another_file_took_the_name_of_is_replaced(herd):
    make_base(herd / "new", noise(MIB, 1))
    (herd / "new").rename(herd / "base.qcow2")
    assert both(herd) == both(herd, full=True) == ("replaced", "replaced")


def test_a_base_restored_from_a_copy_is_replaced_and_in_full_ok(herd):
    shutil.copy2(herd / "base.qcow2", herd / "copy")
    (herd / "copy").rename(herd / "base.qcow2")
    assert both(herd) == ("replaced", "replaced")
    assert both(herd, full=True, refresh_seals=True) == ("ok", "ok")
    assert both(herd) == ("ok", "ok")


def test_a_base_of_another_format_with_the_same_content_is_ok_in_full(herd):
    qemu_img("convert", "-O", "qcow2", "-c", herd / "base.qcow2", herd / "small")
    (herd / "small").rename(herd / "base.qcow2")
    assert both(herd, full=True) == ("ok", "ok")


def test_another_device_number_alone_is_not_a_replacement(herd, monkeypatch):
    real = conditions.FileIdentity.of

    def after_a_reboot(path):

        return real(path)._replace(device=12345)

    monkeypatch.setattr(conditions.FileIdentity, "of", after_a_reboot)
    assert both(herd) == ("ok", "ok")


def test_a_base_replaced_together_with_its_seal_does_not_fit_the_binding(herd):
    unseal(herd / "base.qcow2", force=True)
    make_base(herd / "new", noise(MIB, 1))
    (herd / "new").rename(herd / "base.qcow2")
    seal(herd / "base.qcow2", force=True)
    assert both(herd) == both(herd, full=True) == ("ok", "binding-mismatch")


def test_a_binding_to_an_unsealed_base_is_compared_in_full(herd):
    unseal(herd / "base.qcow2", force=True)
    assert both(herd, full=True) == ("unsealed", "ok")
    write(herd / "base.qcow2", "write -P 1 0 64k")
    assert both(herd) == ("unsealed", "unvouched")
    assert both(herd, full=True) == ("unsealed", "binding-mismatch")


def test_an_overlay_whose_base_is_gone_and_the_seal_without_image_are_missing_base(herd):
    (herd / "base.qcow2").unlink()
    assert both(herd) == both(herd, full=True) == ("missing-base", "missing-base")


def test_a_chain_that_breaks_further_down_is_missing_base(herd):
    leaf = make_overlay(herd / "leaf.qcow2", "o.qcow2")
    (herd / "base.qcow2").unlink()
    assert statuses(leaf)["leaf.qcow2"] == "missing-base"


def test_a_loop_is_missing_base(herd):
    make_overlay(herd / "leaf.qcow2", "o.qcow2")
    qemu_img("rebase", "-u", "-b", "leaf.qcow2", "-F", "qcow2", herd / "o.qcow2")
    assert statuses(herd / "leaf.qcow2")["leaf.qcow2"] == "missing-base"


def test_naming_an_overlay_checks_its_whole_chain_bases_first(herd):
    make_overlay(herd / "leaf.qcow2", "o.qcow2")
    make_base(herd / "stranger.qcow2", noise(65536))
    assert list(statuses(herd / "leaf.qcow2")) == ["base.qcow2", "o.qcow2", "leaf.qcow2"]


def test_an_overlay_made_elsewhere_is_ok_and_said_to_be_unbound(herd):
    make_overlay(herd / "plain.qcow2", "base.qcow2")
    row = verify([herd / "plain.qcow2"])[-1]
    assert (row.status, row.detail) == (Status.OK, "not bound to its base")


def test_drift_of_the_root_shows_through_a_sealed_middle_layer_unless_it_is_shielded(herd):
    write(herd / "o.qcow2", "write -P 1 0 64k")
    seal(herd / "o.qcow2")
    leaf = make_overlay(herd / "leaf.qcow2", "o.qcow2")
    write(herd / "base.qcow2", "write -P 9 0 64k")
    assert statuses(leaf) == {"base.qcow2": "touched", "o.qcow2": "touched", "leaf.qcow2": "touched"}
    assert statuses(leaf, full=True) == {"base.qcow2": "drifted", "o.qcow2": "ok", "leaf.qcow2": "ok"}
    write(herd / "base.qcow2", "write -P 9 64k 64k")
    assert statuses(leaf, full=True) == {"base.qcow2": "drifted", "o.qcow2": "drifted", "leaf.qcow2": "drifted"}


def test_a_base_that_is_no_image_any_more_is_drifted(herd):
    os.truncate(herd / "base.qcow2", 0)
    assert both(herd) == ("touched", "touched")
    assert both(herd, full=True) == ("drifted", "drifted")


def test_a_base_that_something_else_took_the_name_of_is_replaced_in_full_too(herd):
    (herd / "new").write_bytes(noise(MIB))
    (herd / "new").rename(herd / "base.qcow2")
    assert both(herd, full=True) == ("replaced", "replaced")


def test_a_damaged_binding_is_a_mismatch(herd):
    with open_disk(herd / "o.qcow2", writable=True, backing=False) as disk:
        disk.layers[0].set_extension(EXTENSION_TYPE, b"nonsense")
    row = verify([herd / "o.qcow2"])[-1]
    assert (row.status, "binding" in row.detail) == (Status.BINDING_MISMATCH, True)


def test_a_damaged_seal_is_touched_because_nothing_can_be_said(herd):
    path = seal_path(herd / "base.qcow2")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    for full in (False, True):
        row = verify([herd / "base.qcow2"], full=full)[0]
        assert (row.status, "seal can't be used" in row.detail) == (Status.TOUCHED, True)


def test_a_base_that_was_resized_is_drifted(herd):
    qemu_img("resize", "-q", herd / "base.qcow2", "2M")
    row = verify([herd / "base.qcow2"], full=True)[0]
    assert row.status is Status.DRIFTED
    assert "size went from 1048576 to 2097152" in row.detail


def test_the_quick_form_opens_no_disk(herd, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the quick form reads no data")

    monkeypatch.setattr(opening, "open_disk", refuse)
    assert both(herd) == ("ok", "ok")


def test_an_image_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(HostFileError, match="No such file"):
        verify([tmp_path / "none"])


def test_without_a_name_the_current_directory_is_the_herd(herd, monkeypatch):
    monkeypatch.chdir(herd)
    assert statuses() == {"base.qcow2": "ok", "o.qcow2": "ok"}


@pytest.mark.parametrize("answers", range(1, 8))
def test_a_seal_that_somebody_takes_away_meanwhile_ends_in_an_error_or_an_answer(tmp_path, monkeypatch, answers):
    base = make_base(tmp_path / "base", noise(65536))
    seal(base)
    left = iter(range(answers))
    monkeypatch.setattr("cowherd.herd.lineage.scan.find_seal", lambda path: None if next(left, None) is None else f"{path}.seal")
    seal_path(base).rename(tmp_path / "taken")
    with contextlib.suppress(HostFileError):
        assert len(verify([base], full=True)) == 1
