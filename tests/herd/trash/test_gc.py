from __future__ import annotations

import os
import time

import pytest

from cowherd.cli.guard.main import main
from cowherd.herd.overlays.clone import clone
from cowherd.herd.records.ownership import TRASH
from cowherd.herd.seals.seal import seal
from cowherd.herd.trash.gc import Sort, clean, gc
from cowherd.herd.trash.trash import empty_trash, trash
from tests.herd.qemu_herd import make_base, make_overlay, noise

pytestmark = pytest.mark.qemu

TEMPORARY = ".cowherd-0123456789abcdef"


@pytest.fixture
def herd(tmp_path):
    """A sealed base with an overlay: nothing to collect."""
    make_base(tmp_path / "base", noise(1 << 20))
    clone(tmp_path / "base", tmp_path / "o")
    return tmp_path


def found(herd) -> list[tuple[Sort, str]]:
    return [(one.sort, one.path.name) for one in gc([herd])]


def collect(herd) -> None:
    """Runs the command of everything found; nothing must be left but what went to the trash."""
    for one in gc([herd]):
        if one.remedy[0] == "cowherd":
            assert main(one.remedy[1:]) == 0
        else:
            assert os.spawnvp(os.P_WAIT, one.remedy[0], one.remedy) == 0
    assert {one.sort for one in gc([herd])} <= {Sort.TRASHED}


def make_temporary(herd, age_seconds: float):
    path = herd / TEMPORARY
    path.write_bytes(b"x" * 10000)
    os.utime(path, times=(time.time() - age_seconds,) * 2)
    return path


def test_a_herd_in_order_has_no_garbage(herd):
    assert found(herd) == []


def test_a_sealed_base_without_overlays_could_go(herd):
    (herd / "o").unlink()
    (one,) = gc([herd])
    assert (one.sort, one.path) == (Sort.UNUSED_BASE, herd / "base")
    assert one.frees == (herd / "base").stat().st_blocks * 512 + (herd / "base.seal").stat().st_blocks * 512
    collect(herd)


def test_an_unsealed_image_without_overlays_is_a_disk_and_not_garbage(herd):
    make_base(herd / "disk", noise(65536))
    assert found(herd) == []


def test_an_orphan_could_go(herd):
    make_base(herd / "gone", noise(65536))
    make_overlay(herd / "p", "gone")
    (herd / "gone").unlink()
    assert found(herd) == [(Sort.ORPHAN, "p")]
    collect(herd)


def test_the_seal_of_a_lost_image_is_a_leftover_unless_an_overlay_waits_for_the_image(herd):
    (herd / "base").rename(herd / "renamed")
    assert (Sort.LEFTOVER, "base.seal") not in found(herd)
    (herd / "o").unlink()
    assert found(herd) == [(Sort.LEFTOVER, "base.seal")]
    collect(herd)


def test_old_temporary_files_are_leftovers_and_young_ones_are_not(herd):
    make_temporary(herd, 60)
    assert found(herd) == []
    make_temporary(herd, 7200)
    assert found(herd) == [(Sort.LEFTOVER, TEMPORARY)]
    collect(herd)


def test_what_is_only_called_as_a_shadow_is_listed_and_never_removed(herd):
    (herd / "other.shadow").write_bytes(b"x")
    assert found(herd) == []
    (herd / "other.shadow").chmod(0o444)
    assert found(herd) == [(Sort.UNPROVEN, "other.shadow")]
    assert clean(gc([herd])) == []
    assert (herd / "other.shadow").exists()


def test_the_trash_is_listed_with_what_it_holds(herd):
    trash([herd / "o"])
    seal(herd / "base")
    assert found(herd) == [(Sort.TRASHED, "o")]
    empty_trash([herd])
    assert found(herd) == [(Sort.UNUSED_BASE, "base")]


def test_what_an_interrupted_deletion_left_is_a_leftover(herd):
    (entry,) = trash([herd / "o"])
    os.rename(entry.image, herd / "o")
    assert found(herd) == [(Sort.LEFTOVER, entry.id), (Sort.LEFTOVER, entry.record.name)]
    clean(gc([herd]))
    assert found(herd) == []
    assert not entry.trash.exists()


@pytest.mark.parametrize("name", ["base.seal", "base.shadow", "letter"])
def test_in_an_entry_without_its_image_only_names_of_what_lies_beside_the_trash_are_removed(herd, name):
    (entry,) = trash([herd / "o"])
    os.rename(entry.image, herd / "o")
    (entry.directory / name).write_bytes(b"the only copy")
    assert found(herd) == [(Sort.UNPROVEN, entry.record.name)]
    assert clean(gc([herd])) == []
    assert (entry.directory / name).read_bytes() == b"the only copy"
    (herd / name).unlink(missing_ok=True)
    os.link(entry.directory / name, herd / name)
    clean(gc([herd]))
    assert not entry.trash.exists()
    assert (herd / name).read_bytes() == b"the only copy"


def test_an_empty_trash_is_a_leftover(herd):
    (herd / TRASH).mkdir()
    assert found(herd) == [(Sort.LEFTOVER, TRASH)]
    clean(gc([herd]))
    assert found(herd) == []


def test_an_image_whose_record_is_damaged_stays_with_it(herd):
    (entry,) = trash([herd / "o"])
    entry.record.write_bytes(b"{")
    clean(gc([herd]))
    assert entry.image.exists()
    assert entry.record.exists()


def test_cleaning_removes_leftovers_and_nothing_else(herd):
    make_temporary(herd, 7200)
    (herd / "o").unlink()
    assert [one.path.name for one in clean(gc([herd]))] == [TEMPORARY]
    assert found(herd) == [(Sort.UNUSED_BASE, "base")]
