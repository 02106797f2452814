"""What there is to watch in a herd."""

from __future__ import annotations

import cowherd
from cowherd.herd.watch.stock import take_stock


def test_sealed_images_are_found_with_their_seals_and_dependents(base):
    (found,) = take_stock([base.parent]).bases.values()
    assert (found.path, found.seal) == (base, base.with_name("base.qcow2.seal"))
    assert [path.name for path in found.dependents] == ["fresh.qcow2", "shielded.qcow2", "torn.qcow2"]
    assert found.record.generation == 1


def test_the_files_below_a_sealed_overlay_matter_to_it(base):
    golden = base.parent / "fresh.qcow2"
    cowherd.seal(golden)
    stock = take_stock([base.parent])
    assert [one.path for one in stock.of_file(base)] == [base, golden]
    assert [one.path for one in stock.of_file(golden.with_name("fresh.qcow2.seal"))] == [golden]
    assert stock.of_file(base.parent / "torn.qcow2") == []


def test_every_directory_of_the_herd_is_watched_for_new_seals_and_that_of_a_base_outside_too(base, tmp_path):
    inside = tmp_path / "inside"
    (inside / "a" / "b").mkdir(parents=True)
    (inside / ".cowherd-trash").mkdir()
    (inside / "link").symlink_to(tmp_path)
    cowherd.clone(base, inside / "a" / "overlay.qcow2")
    stock = take_stock([inside])
    assert stock.directories == {inside, inside / "a", inside / "a" / "b", base.parent}
    assert list(stock.bases) == [base]


def test_a_damaged_seal_makes_a_base_without_a_record(base):
    seal = base.with_name("base.qcow2.seal")
    seal.chmod(0o644)
    seal.write_bytes(seal.read_bytes()[:50])
    (found,) = take_stock([base.parent]).bases.values()
    assert found.record is None
