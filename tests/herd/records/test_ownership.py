"""Files that have the names of cowherd's own, and are none: they must be seen, kept, and not be in the way."""

from __future__ import annotations

import os
import subprocess

import pytest

from cowherd.cli.guard.main import main
from cowherd.herd.doctor.doctor import doctor
from cowherd.herd.doctor.finding import Kind
from cowherd.herd.lineage.survey import survey
from cowherd.herd.merge.merge import merge
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.move import move
from cowherd.herd.overlays.promote import promote
from cowherd.herd.records import sidecars
from cowherd.herd.records.faults import NameTaken
from cowherd.herd.records.sealfile import read_digests
from cowherd.herd.records.sealplace import is_sealed
from cowherd.herd.records.sealrecord import record_to_json
from cowherd.herd.repair.repair import repair
from cowherd.herd.report.tree import tree
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.seals.verify import verify
from cowherd.herd.trash.gc import Sort, clean, gc
from cowherd.herd.trash.trash import purge, restore, trash
from cowherd.storage.protection import Protection
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, write
from tests.reliability.calls import played_reflinks

pytestmark = pytest.mark.qemu("qemu-io")

CONTENT = noise(1 << 18)
SUFFIXES = ("seal", "shadow", "merge")


@pytest.fixture(params=SUFFIXES)
def snapshot(request, tmp_path):
    """`web`, and an external snapshot of it as libvirt names one: the running disk."""
    make_base(tmp_path / "web", CONTENT)
    disk = make_overlay(tmp_path / f"web.{request.param}", tmp_path / "web")
    write(disk, "write -P 7 0 64k")
    return disk


def state(directory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_an_overlay_with_a_sidecar_s_name_is_a_member_of_the_herd(snapshot):
    lineage = survey([snapshot.parent])
    assert [image.path for image in lineage.dependents(lineage.find(snapshot.with_name("web")))] == [snapshot]
    assert [node.path for node in tree([snapshot.parent]).nodes] == [snapshot.with_name("web"), snapshot]
    assert {row.status.value for row in verify([snapshot])} == {"unsealed"}


@pytest.mark.parametrize(
    "command",
    ["delete web", "delete --purge web", "unseal web", "gc --clean .", "recover .", "trash empty .", "verify .", "doctor ."],
)
def test_no_command_touches_it(snapshot, monkeypatch, command):
    monkeypatch.chdir(snapshot.parent)
    before = state(snapshot.parent)
    main(command.split())
    assert state(snapshot.parent) == before


def test_its_base_is_renamed_without_it(snapshot):
    before = content(snapshot)
    move(snapshot.with_name("web"), snapshot.with_name("web2"))
    assert not snapshot.with_name("web").exists()
    assert content(snapshot) == before


def test_where_a_seal_s_name_is_taken_sealing_says_so_and_changes_nothing(tmp_path):
    base = make_base(tmp_path / "web", CONTENT)
    (tmp_path / "web.seal").write_text("a letter")
    before, mode = state(tmp_path), base.stat().st_mode
    for attempt in (lambda: seal(base, level=Protection.READONLY), lambda: clone(base, tmp_path / "o")):
        with pytest.raises(NameTaken) as refused:
            attempt()
        assert (refused.value.path, refused.value.exit_code) == (tmp_path / "web.seal", 1)
        assert (state(tmp_path), base.stat().st_mode) == (before, mode)


@pytest.mark.parametrize("chained", [False, True])
def test_no_base_is_made_where_its_seal_could_not_lie(tmp_path, chained):
    make_base(tmp_path / "disk", CONTENT)
    (tmp_path / "golden.seal").write_text("a letter")
    before = state(tmp_path)
    with pytest.raises(NameTaken):
        promote(tmp_path / "disk", tmp_path / "golden", chained=chained)
    assert state(tmp_path) == before


def test_a_shadow_s_taken_name_is_told_before_anything_is_sealed(tmp_path):
    base = make_base(tmp_path / "web", CONTENT)
    (tmp_path / "web.shadow").write_text("a letter")
    with played_reflinks(), pytest.raises(NameTaken):
        seal(base, shadow=True)
    assert not is_sealed(base)
    seal(base)
    with played_reflinks(), pytest.raises(NameTaken):
        seal(base, shadow=True)
    unseal(base)
    assert (tmp_path / "web.shadow").read_text() == "a letter"


@pytest.mark.parametrize("strategy", ["preserve", "fork"])
def test_where_a_journal_s_name_is_taken_a_merge_says_so_and_changes_nothing(tmp_path, strategy):
    make_base(tmp_path / "web", CONTENT)
    disk = make_overlay(tmp_path / "web.merge", tmp_path / "web")
    write(disk, "write -P 7 0 64k")
    before = state(tmp_path)
    for dry_run in (True, False):
        with pytest.raises(NameTaken, match="journal"):
            merge(disk, strategy=strategy, dry_run=dry_run)
    assert state(tmp_path) == before


def test_a_new_base_takes_no_name_beside_which_its_seal_could_not_lie(tmp_path):
    base = make_base(tmp_path / "base.qcow2", CONTENT)
    overlay = tmp_path / "o.qcow2"
    clone(base, overlay)
    clone(base, tmp_path / "other.qcow2")
    write(overlay, "write -P 7 0 64k")
    (tmp_path / "base-merged.qcow2.seal").write_text("a letter")
    done = merge(overlay, strategy="fork")
    assert done.plan.fork.name == "base-merged2.qcow2"
    assert (tmp_path / "base-merged.qcow2.seal").read_text() == "a letter"


@pytest.mark.parametrize("suffix", ["seal", "shadow"])
def test_where_the_target_s_sidecar_names_are_taken_nothing_moves(tmp_path, suffix):
    base = make_base(tmp_path / "base", CONTENT)
    with played_reflinks():
        seal(base, shadow=True)
    (tmp_path / f"new.{suffix}").write_text("a letter")
    before = state(tmp_path)
    with pytest.raises(NameTaken):
        move(base, tmp_path / "new")
    assert state(tmp_path) == before


@pytest.mark.parametrize("suffix", ["seal", "shadow"])
def test_what_has_a_sidecar_s_place_keeps_it_when_an_image_comes_back(tmp_path, suffix):
    base = make_base(tmp_path / "base", CONTENT)
    with played_reflinks():
        seal(base, shadow=True)
    (entry,) = trash([base])
    (tmp_path / f"base.{suffix}").write_text("a letter")
    with pytest.raises(NameTaken):
        restore(base)
    assert (tmp_path / f"base.{suffix}").read_text() == "a letter"
    assert {path.name for path in entry.directory.iterdir()} == {"base", "base.seal", "base.shadow"}
    (tmp_path / f"base.{suffix}").unlink()
    assert restore(base).sealed
    assert {path.name for path in tmp_path.iterdir()} == {"base", "base.seal", "base.shadow"}


@pytest.mark.parametrize("delete", [trash, purge])
def test_deleting_takes_along_only_what_is_proven_to_be_the_image_s(tmp_path, delete):
    base = make_base(tmp_path / "base", CONTENT)
    (tmp_path / "base.seal").write_text("a letter")
    (tmp_path / "base.shadow").write_text("another")
    delete([base])
    assert (tmp_path / "base.seal").read_text() == "a letter"
    assert (tmp_path / "base.shadow").read_text() == "another"


def test_a_shadow_is_known_by_what_the_seal_recorded(tmp_path):
    base = make_base(tmp_path / "base", CONTENT)
    with played_reflinks():
        seal(base, shadow=True)
    shadow = tmp_path / "base.shadow"
    assert sidecars.is_shadow(shadow)
    copy = shadow.read_bytes()
    shadow.unlink()
    shadow.write_bytes(copy)
    shadow.chmod(0o444)
    assert not sidecars.is_shadow(shadow)
    unseal(base)
    assert shadow.read_bytes() == copy


def test_the_shadow_of_an_older_seal_is_known_by_length_mode_and_beginning(tmp_path):
    base = make_base(tmp_path / "base", CONTENT)
    with played_reflinks():
        seal(base, shadow=True)
    shadow = tmp_path / "base.shadow"
    record = read_digests(tmp_path / "base.seal")[0]._replace(shadow_file=None)
    assert "shadow_file" in record_to_json(record)
    assert sidecars.is_shadow_of(shadow, record)
    shadow.chmod(0o644)
    assert not sidecars.is_shadow_of(shadow, record)
    shadow.write_bytes(bytes(len(shadow.read_bytes())))
    shadow.chmod(0o444)
    assert not sidecars.is_shadow_of(shadow, record)


def test_a_shadow_comes_along_and_stays_known_whatever_daily_work_does(tmp_path):
    base = make_base(tmp_path / "base", CONTENT)
    (tmp_path / "sub").mkdir()
    with played_reflinks():
        seal(base, shadow=True)
        move(base, tmp_path / "new")
        trash([tmp_path / "new"])
        restore(tmp_path / "new")
        move(tmp_path / "new", tmp_path / "sub")
        seal(tmp_path / "sub" / "new", level=Protection.READONLY, shadow=True)
    assert sidecars.is_shadow(tmp_path / "sub" / "new.shadow")
    assert {path.name for path in tmp_path.iterdir()} == {"sub"}
    assert {row.status.value for row in verify([tmp_path / "sub" / "new"])} == {"ok"}
    unseal(tmp_path / "sub" / "new")
    assert {path.name for path in (tmp_path / "sub").iterdir()} == {"new"}


def test_a_link_with_a_seal_s_name_is_no_seal(tmp_path):
    base = make_base(tmp_path / "base", CONTENT)
    other = make_base(tmp_path / "other", CONTENT)
    seal(other)
    (tmp_path / "base.seal").symlink_to("other.seal")
    assert not is_sealed(base)
    with pytest.raises(NameTaken):
        seal(base)
    assert (tmp_path / "base.seal").is_symlink()


def test_gc_leaves_what_an_overlay_waits_for_by_its_binding_alone(tmp_path):
    base = make_base(tmp_path / "base", CONTENT)
    clone(base, tmp_path / "o")
    make_base(tmp_path / "another", noise(1 << 18, 2))
    subprocess.run(["qemu-img", "rebase", "-u", "-b", "another", "-F", "qcow2", tmp_path / "o"], check=True)
    base.unlink()
    assert clean(gc([tmp_path])) == []
    assert (tmp_path / "base.seal").exists()
    trash([tmp_path / "o"])
    assert clean(gc([tmp_path])) == [], "one in the trash waits too"
    purge_trash(tmp_path)
    assert [one.path.name for one in clean(gc([tmp_path]))] == ["base.seal"]


def purge_trash(directory) -> None:
    assert main(["trash", "empty", os.fspath(directory)]) == 0


def test_the_shadow_of_a_lost_image_is_its_last_copy_and_brings_it_back(tmp_path):
    base = make_base(tmp_path / "base", CONTENT)
    with played_reflinks():
        seal(base, shadow=True)
        base.unlink()
        (one,) = gc([tmp_path])
        assert (one.sort, clean([one])) == (Sort.LAST_COPY, [])
        repair(base)
    assert content(base) == CONTENT


def test_a_trashed_base_that_an_overlay_is_bound_to_stays_whatever_name_that_has_for_it(tmp_path):
    base = make_base(tmp_path / "base", CONTENT)
    clone(base, tmp_path / "o")
    trash([base], force=True)
    subprocess.run(["qemu-img", "rebase", "-u", "-b", "elsewhere", "-F", "qcow2", tmp_path / "o"], check=True)
    assert main(["trash", "empty", os.fspath(tmp_path)]) == 3
    trash([tmp_path / "o"])
    assert main(["trash", "empty", os.fspath(tmp_path)]) == 0, "both go together"


@pytest.mark.parametrize("name", [".cowherd-lab.qcow2", ".cowherd-0123456789ABCDEF", ".cowherd-0123456789abcdef0"])
def test_only_the_exact_form_of_an_unfinished_file_s_name_hides_a_file(tmp_path, name):
    make_base(tmp_path / name, CONTENT)
    os.utime(tmp_path / name, (0, 0))
    assert [image.path.name for image in survey([tmp_path]).images.values()] == [name]
    assert clean(gc([tmp_path])) == []


def test_an_unfinished_name_that_an_overlay_stands_on_is_no_leftover(tmp_path):
    name = ".cowherd-0123456789abcdef"
    make_base(tmp_path / name, CONTENT)
    make_overlay(tmp_path / "o", name)
    os.utime(tmp_path / name, (0, 0))
    assert gc([tmp_path]) == []
    (tmp_path / ".cowherd-0123456789abcde0").symlink_to("o")
    assert clean(gc([tmp_path])) == []


def test_the_doctor_tells_of_a_base_that_can_not_be_sealed_for_a_name(tmp_path):
    make_base(tmp_path / "web", CONTENT)
    make_overlay(tmp_path / "o", "web")
    assert "none" not in unsealed(tmp_path)
    (tmp_path / "web.seal").write_text("a letter")
    assert f"{tmp_path}/web.seal, which has the name of its seal, is none" in unsealed(tmp_path)


def unsealed(directory) -> str:
    (found,) = [one for one in doctor([directory]).findings if one.kind is Kind.UNSEALED_BASE]
    return found.detail


def test_a_seal_of_which_half_a_word_is_read_at_a_time_is_a_seal(tmp_path, monkeypatch):
    make_base(tmp_path / "base", CONTENT)
    seal(tmp_path / "base")
    read = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: read(fd, max(1, length // 2), offset))
    assert is_sealed(tmp_path / "base")
