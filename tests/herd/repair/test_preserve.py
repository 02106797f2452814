from __future__ import annotations

import contextlib
import os
import random
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd.errors import ImageInUse, NotEnoughSpace, SnapshotsWouldChange
from cowherd.herd.impact.impact import impact
from cowherd.herd.overlays.clone import clone
from cowherd.herd.records.binding import read_binding
from cowherd.herd.records.faults import DonorMissing, DriftFound, HerdNotReadable
from cowherd.herd.records.sealfile import read_record
from cowherd.herd.records.sealplace import seal_path
from cowherd.herd.repair.repair import repair
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.verify import verify
from cowherd.image.disk import Disk
from cowherd.storage import writeback
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ, WRITE
from cowherd.storage.protection import Protection, current
from tests.herd.impact.test_impact import CLUSTERS, DISK_BYTES, commands
from tests.herd.qemu_herd import content, killed_after, make_base, make_overlay, noise, qemu_img, write
from tests.snapshots import Chance, all_shown, shown

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
CONTENT = noise(3 * MIB)
TAMPERING = ("write -P 7 64k 200k", "write -P 8 1500k 4k", "write -z 2M 128k")


@pytest.fixture
def donor(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("donor") / "copy.raw", CONTENT, format="raw")


@pytest.fixture
def herd(tmp_path):
    """A sealed base; three clones of it that wrote much, a little (in large clusters) and nothing; an overlay of one of them."""
    base = make_base(tmp_path / "base", CONTENT)
    much = clone(base, tmp_path / "much").overlay
    clone(base, tmp_path / "nothing")
    little = make_overlay(tmp_path / "little", "base", "-o", "cluster_size=2M")
    clone(much, tmp_path / "leaf", seal_base=False)
    write(much, "write -P 1 100k 300k", "write -z 1500k 64k", "write -P 1 2100k 4k")
    write(little, "write -P 2 70k 1k")
    write(tmp_path / "leaf", "write -P 3 130k 10k")
    return {name: tmp_path / name for name in ("base", "much", "little", "nothing", "leaf")}


def contents(herd) -> dict[str, bytes]:
    return {name: content(path) for name, path in herd.items() if name != "base"}


def problems(herd) -> dict[str, str]:
    rows = verify(herd=[herd["base"].parent]) + verify(herd=[herd["base"].parent], full=True)
    return {row.path.name: f"{row.status}: {row.detail}" for row in rows if not row.status.is_fine}


def test_every_overlay_shows_what_it_did_and_the_base_stays_as_it_became(herd, donor):
    before = contents(herd)
    write(herd["base"], *TAMPERING)
    became = content(herd["base"])
    done = repair(herd["base"], preserve=True, donors=[donor])
    assert done.left == []
    assert contents(herd) == before
    assert content(herd["base"]) == became
    assert problems(herd) == {}
    for path in herd.values():
        qemu_img("check", "-q", path)


def test_what_overlays_are_given_is_sent_to_the_disk_meanwhile(herd, donor, monkeypatch):
    write(herd["base"], *TAMPERING)
    begun = set()
    monkeypatch.setattr(writeback, "BEHIND_BYTES", 1)
    monkeypatch.setattr(HostFile, "start_writing", lambda file, offset, length: begun.add(os.path.basename(file.path)))
    repair(herd["base"], preserve=True, donors=[donor])
    assert begun == {"much", "little", "nothing"}


@pytest.mark.parametrize("most", [0, 1, 2])
def test_more_overlays_than_can_be_held_are_served_all_the_same(herd, donor, monkeypatch, most):
    monkeypatch.setattr("cowherd.herd.repair.preserve.MOST_HELD", most)
    before = contents(herd)
    write(herd["base"], *TAMPERING)
    repair(herd["base"], donors=[donor], preserve=True)
    assert contents(herd) == before
    assert problems(herd) == {}


def test_an_overlay_may_itself_give_the_old_blocks(herd, donor):
    """It is among those that are served, so this command holds its locks."""
    full = make_overlay(herd["base"].with_name("full"), "base")
    qemu_img("convert", "-n", "-f", "raw", "-O", "qcow2", donor, full)
    before = contents(herd)
    write(herd["base"], *TAMPERING)
    repair(herd["base"], donors=[full], preserve=True)
    assert contents(herd) == before


def test_the_base_is_sealed_anew_and_its_overlays_are_bound_to_that(herd, donor):
    first = read_record(seal_path(herd["base"]))
    write(herd["base"], *TAMPERING)
    repair(herd["base"], preserve=True, donors=[donor])
    second = read_record(seal_path(herd["base"]))
    assert (second.seal_id, second.generation) == (first.seal_id, 2)
    assert second.content_digest != first.content_digest
    for name in ("much", "little", "nothing"):
        assert read_binding(herd[name]).content_digest == second.content_digest
        assert read_binding(herd[name]).generation == 2


def test_only_what_an_overlay_would_see_is_written_to_it(herd, donor):
    write(herd["base"], "write -P 7 128k 128k")
    plan = repair(herd["base"], preserve=True, donors=[donor], dry_run=True).plan.to_json()
    written = {write["path"].rsplit("/", 1)[-1]: write["ranges"] for write in plan["writes"]}
    assert written == {"much": [], "little": [], "nothing": [[131072, 131072]]}


def test_a_dry_run_changes_nothing(herd, donor):
    write(herd["base"], *TAMPERING)
    before = {name: path.read_bytes() for name, path in herd.items()}
    assert not repair(herd["base"], preserve=True, donors=[donor], dry_run=True).done
    assert {name: path.read_bytes() for name, path in herd.items()} == before


def test_without_a_donor_nothing_is_written(herd):
    write(herd["base"], *TAMPERING)
    before = {name: path.read_bytes() for name, path in herd.items()}
    with pytest.raises(DonorMissing):
        repair(herd["base"], preserve=True)
    assert {name: path.read_bytes() for name, path in herd.items()} == before


def test_no_donor_is_needed_for_what_every_overlay_shields(tmp_path):
    base = make_base(tmp_path / "base", CONTENT)
    overlay = clone(base, tmp_path / "o").overlay
    write(overlay, "write -P 1 0 64k")
    write(base, "write -P 7 0 64k")
    repair(base, preserve=True)
    assert problems({"base": base}) == {}


@pytest.mark.parametrize("lock", [READ, WRITE])
def test_an_overlay_in_use_is_found_out_before_any_is_written(herd, donor, lock):
    write(herd["base"], *TAMPERING)
    before = {name: path.read_bytes() for name, path in herd.items()}
    with HostFile.open(herd["nothing"], writable=True, lock=lock), pytest.raises(ImageInUse):
        repair(herd["base"], preserve=True, donors=[donor])
    assert {name: path.read_bytes() for name, path in herd.items()} == before


def test_an_overlay_that_is_not_as_sealed_is_found_out_before_any_is_written(herd, donor):
    seal(herd["much"])
    write(herd["much"], "write -P 9 0 64k")
    write(herd["base"], *TAMPERING)
    before = {name: path.read_bytes() for name, path in herd.items()}
    with pytest.raises(DriftFound, match="much"):
        repair(herd["base"], preserve=True, donors=[donor])
    assert {name: path.read_bytes() for name, path in herd.items()} == before


def test_too_little_space_is_found_out_before_anything_is_written(herd, donor, monkeypatch):
    write(herd["base"], *TAMPERING)
    before = {name: path.read_bytes() for name, path in herd.items()}
    monkeypatch.setattr("cowherd.storage.space.free_bytes", lambda path: 1000)
    with pytest.raises(NotEnoughSpace, match="nothing was changed"):
        repair(herd["base"], preserve=True, donors=[donor])
    assert {name: path.read_bytes() for name, path in herd.items()} == before


@pytest.mark.parametrize("survived", range(5))
def test_an_interrupted_run_goes_on(herd, donor, monkeypatch, survived):
    before = contents(herd)
    write(herd["base"], *TAMPERING)
    real, left = Disk.write, [survived]

    def die(self, offset, data):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(self, offset, data)

    monkeypatch.setattr(Disk, "write", die)
    with pytest.raises(KeyboardInterrupt):
        repair(herd["base"], preserve=True, donors=[donor])
    monkeypatch.setattr(Disk, "write", real)
    assert read_record(seal_path(herd["base"])).generation == 1
    repair(herd["base"], preserve=True, donors=[donor])
    assert contents(herd) == before
    assert problems(herd) == {}


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 4, 6, 8, 10, 12])
def test_a_run_that_was_killed_goes_on(herd, donor, writes):
    """Killed after a number of writes to host files, wherever in the tables those are."""
    before = contents(herd)
    write(herd["base"], *TAMPERING)
    killed_after(writes, lambda: repair(herd["base"], preserve=True, donors=[donor]))
    repair(herd["base"], preserve=True, donors=[donor])
    assert contents(herd) == before
    assert problems(herd) == {}
    for path in herd.values():
        assert qemu_img.run("check", "-q", path).returncode in (0, 3)  # 3: leaked clusters and nothing worse


def test_sealed_overlays_stay_sealed_with_their_protection(herd, donor):
    for name in ("much", "leaf"):
        seal(herd[name], level=Protection.READONLY)
    before = contents(herd)
    write(herd["base"], *TAMPERING)
    assert repair(herd["base"], preserve=True, donors=[donor]).left == []
    assert contents(herd) == before
    assert current(herd["much"]) is Protection.READONLY
    assert problems(herd) == {}


def test_a_sealed_overlay_that_had_drifted_by_itself_is_named(herd, donor):
    seal(herd["leaf"])
    write(herd["leaf"], "write -P 9 0 64k")
    write(herd["base"], *TAMPERING)
    left = repair(herd["base"], preserve=True, donors=[donor]).left
    assert [path.name for path, _ in left] == ["leaf"]


def test_an_overlay_without_room_for_a_binding_is_preserved_and_named(tmp_path, donor):
    name = "b" * 200
    base = make_base(tmp_path / name, CONTENT)
    seal(base)
    tiny = make_overlay(tmp_path / "tiny", "./" * 70 + name, "-o", "cluster_size=512")
    before = content(tiny)
    write(base, *TAMPERING)
    left = repair(base, preserve=True, donors=[donor]).left
    assert [path.name for path, _ in left] == ["tiny"]
    assert content(tiny) == before


def test_an_unchanged_base_needs_nothing(herd):
    assert repair(herd["base"], preserve=True).plan.write_bytes == 0
    assert read_record(seal_path(herd["base"])).generation == 1
    assert problems(herd) == {}


@settings(max_examples=12)
@given(st.data())
def test_any_herd_is_preserved(tmp_path_factory, data):
    home, away = tmp_path_factory.mktemp("herd"), tmp_path_factory.mktemp("donor")
    held = noise(data.draw(DISK_BYTES))
    base, donor = make_base(home / "base", held), make_base(away / "donor", held, format="raw")
    seal(base)
    herd, names = {"base": base}, ["base"]
    for name in ("a", "b", "c"):
        options = [f"cluster_size={data.draw(st.sampled_from(CLUSTERS))}"]
        if options == ["cluster_size=65536"] and data.draw(st.booleans()):
            options += ["extended_l2=on"]
        size = data.draw(DISK_BYTES)
        herd[name] = make_overlay(home / name, data.draw(st.sampled_from(names)), "-o", ",".join(options), size=size)
        names.append(name)
        if chosen := commands(data.draw(st.integers(0, 999)), size):
            write(herd[name], *chosen)
    before = contents(herd)
    if data.draw(st.booleans()):
        qemu_img("resize", "-q", "--shrink", base, data.draw(DISK_BYTES))
    became = len(content(base))
    if chosen := [
        *commands(data.draw(st.integers(0, 999)), became),
        f"write -P 5 {512 * random.Random(became).randrange(became // 512)} 512",
    ]:
        write(base, *chosen)
    repair(base, preserve=True, donors=[donor])
    assert contents(herd) == before
    assert problems(herd) == {}
    for path in herd.values():
        qemu_img("check", "-q", path)


def test_it_is_refused_while_there_may_be_overlays_that_nobody_knows_of(herd, donor, monkeypatch):
    before = contents(herd)
    write(herd["base"], *TAMPERING)

    def refuse(name, *arguments, real=os.open, **options):
        if os.fspath(name) == os.fspath(herd["little"]):
            raise PermissionError(13, "Permission denied")
        return real(name, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        with pytest.raises(HerdNotReadable) as refused:
            repair(herd["base"], donors=[donor], preserve=True)
    assert refused.value.unreadable == (herd["little"],)
    repair(herd["base"], donors=[donor], preserve=True)
    assert contents(herd) == before


def test_a_snapshot_that_shows_the_change_is_in_the_way_before_anything_is_written(herd, donor):
    qemu_img("snapshot", "-c", "before", herd["little"])
    write(herd["little"], "write -P 9 0 3M")
    write(herd["base"], *TAMPERING)
    before = {name: path.read_bytes() for name, path in herd.items()}
    for dry_run in (True, False):
        with pytest.raises(SnapshotsWouldChange, match=r"'before' of .*little") as caught:
            repair(herd["base"], preserve=True, donors=[donor], dry_run=dry_run)
        assert [path for path, _ in caught.value.snapshots] == [herd["little"]]
    assert {name: path.read_bytes() for name, path in herd.items()} == before


def test_snapshots_that_shield_the_change_or_stand_deeper_are_kept(herd, donor):
    write(herd["nothing"], "write -P 4 64k 256k")
    for name in ("nothing", "leaf"):
        qemu_img("snapshot", "-c", "before", herd[name])
        write(herd[name], "write -P 9 0 1M")
    before = {name: shown(herd[name], "before") for name in ("nothing", "leaf")}
    write(herd["base"], "write -P 7 100k 64k")
    repair(herd["base"], preserve=True, donors=[donor])
    assert {name: shown(herd[name], "before") for name in before} == before
    assert problems(herd) == {}


@pytest.mark.parametrize("seed", range(6))
def test_it_is_refused_exactly_for_the_direct_overlays_snapshots_that_impact_calls_exposed(tmp_path, seed):
    chance = Chance(random.Random(seed))
    base, overlay, leaf = chance.chain(tmp_path, "abc")
    seal(base, bind=True)
    shutil.copy(base, tmp_path / "donor")
    chance.write(base, 1, patterns=9)
    hit = next(hit for hit in impact(base).overlays if hit.path == overlay)
    expected = [(overlay, one.name) for one in hit.snapshots if len(one.exposed)]
    before = {path: (content(path), all_shown(path)) for path in (overlay, leaf)}
    with pytest.raises(SnapshotsWouldChange) if expected else contextlib.nullcontext() as caught:
        repair(base, preserve=True, donors=[tmp_path / "donor"])
    if expected:
        assert list(caught.value.snapshots) == expected
    assert {path: (content(path), all_shown(path)) for path in (overlay, leaf)} == before
