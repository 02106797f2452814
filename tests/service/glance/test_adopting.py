"""What a Glance has is adopted as it was there, or said to be otherwise; nothing of Glance's is changed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import msgspec
import pytest
from blake3 import blake3
from sqlalchemy import func, select

import cowherd
from cowherd.service.glance.files import Files, Found
from cowherd.service.glance.report import Result
from cowherd.service.intake.arriving import Intake
from cowherd.service.intake.faults import StoreFull
from cowherd.service.intake.upload import Upload
from cowherd.service.keeping.fsck.run import check_service
from cowherd.service.keeping.reading import Reader
from cowherd.service.records.events import Event, list_events, record_event
from cowherd.service.records.failures import list_failures
from cowherd.service.records.image import Image, Location
from cowherd.service.records.images import create_image, delete_image, read_image, update_image
from cowherd.service.records.members import Member, list_members
from cowherd.service.records.places import forget_place, places_of
from cowherd.service.records.schema import blobs, images
from cowherd.service.records.states import ACTIVE, DEACTIVATED
from cowherd.service.web.settings import Settings
from cowherd.service.web.upkeep import adopt_glance
from cowherd.stores.directory import DirectoryStore
from tests.service.glance.glance import Glance, facts_of
from tests.storage.hosts import reflink_file_system

CREATED = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
UPDATED = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


def read(database, image_id: str) -> Image:
    with database.read() as connection:
        return read_image(connection, image_id)


def content(database, store, image: Image) -> bytes:
    descriptor = Reader(database, {store.name: store}, image.blob, image.size).open(0, image.size)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def findings(database, store):
    return list(check_service(database, {store.name: store}, repair=False))


def test_an_image_is_as_it_was_in_glance(glance, adopted_one, database, store):
    facts = {"name": "n", "visibility": "public", "protected": 1, "os_hidden": 1, "min_disk": 3, "min_ram": 5, "owner": "o"}
    image_id = glance.image(b"content", **facts)
    glance.of(image_id, "properties", name="hw_disk_bus", value="virtio")
    glance.of(image_id, "properties", name="gone", value="x", deleted=1)
    glance.of(image_id, "properties", name="os_glance_import_task", value="t")
    glance.of(image_id, "tags", value="b")
    glance.of(image_id, "tags", value="a")
    glance.of(image_id, "tags", value="gone", deleted=1)
    glance.of(image_id, "members", member="m", status="accepted", can_share=0)
    glance.of(image_id, "members", member="gone", status="accepted", can_share=0, deleted=1)
    outcome = adopted_one()
    assert outcome == (image_id, "n", "active", Result.ADOPTED, outcome.how, 7, None)
    image = read(database, image_id)
    assert image == Image(
        id=image_id,
        status="active",
        disk_format="raw",
        container_format="bare",
        created_at=CREATED,
        updated_at=UPDATED,
        properties={"hw_disk_bus": "virtio"},
        tags=("a", "b"),
        blob=blake3(b"content").hexdigest(),
        stores=("default",),
        **{**facts, "protected": True, "os_hidden": True},
        **facts_of(b"content"),
    )
    with database.read() as connection:
        assert list_members(connection, image_id) == [Member(image_id, "m", "accepted", CREATED, UPDATED)]
    assert content(database, store, image) == b"content"
    assert findings(database, store) == []


def test_a_qcow2_image_is_inspected_sealed_and_summed(glance, adopted_one, database, store, tmp_path):
    cowherd.create(tmp_path / "disk", 1 << 20)
    data = (tmp_path / "disk").read_bytes()
    image_id = glance.image(data, disk_format="qcow2", virtual_size=1 << 20)
    assert adopted_one().problem is None
    blob = read(database, image_id).blob
    assert all(store.read_beside(blob, kind) for kind in ("seal", "sums", "about"))
    assert read(database, image_id).virtual_size == 1 << 20


def test_nothing_of_glances_is_changed(glance, adopt, tmp_path):
    for data in (b"one", b"two", os.urandom(3 << 20)):
        glance.image(data)
    glance.image(status="queued")
    before = glance.everything()
    adopt()
    assert glance.everything() == before


def test_images_of_the_same_bytes_share_a_blob(glance, adopt, database):
    one, other = glance.image(b"same"), glance.image(b"same", name="twin")
    adopt()
    assert read(database, one).blob == read(database, other).blob
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(blobs)).scalar() == 1


@pytest.mark.parametrize("status", ["saving", "uploading", "importing", "killed"])
def test_what_was_under_way_is_queued_and_says_why(glance, adopted_one, database, status):
    image_id = glance.image(status=status, size=None)
    outcome = adopted_one()
    assert outcome.result == Result.WAITING
    assert status in outcome.problem
    image = read(database, image_id)
    assert image.status == "queued"
    assert outcome.problem in image.reason


def test_what_was_queued_is_queued_and_what_was_deactivated_is_deactivated(glance, adopt, database):
    queued, off = glance.image(status="queued"), glance.image(b"off", status="deactivated")
    assert {one.image: one.result for one in adopt().images} == {queued: Result.RECORDED, off: Result.ADOPTED}
    assert (read(database, queued).status, read(database, queued).reason) == ("queued", None)
    assert (read(database, off).status, read(database, off).size) == (DEACTIVATED, 3)


def test_what_was_deleted_is_not_adopted(glance, adopt, database):
    glance.image(b"x", status="deleted", deleted=1)
    glance.image(b"y", status="pending_delete")
    assert adopt().images == ()
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(images)).scalar() == 0


def rotten(glance) -> str:
    image_id = glance.image(b"content")
    glance.path(image_id).write_bytes(b"cOntent")
    return image_id


def shorter(glance) -> str:
    image_id = glance.image(b"content")
    glance.path(image_id).write_bytes(b"conten")
    return image_id


def missing(glance) -> str:
    image_id = glance.image(b"content")
    glance.path(image_id).unlink()
    return image_id


def overlay(glance) -> str:
    base, over = glance.folder.parent / "base", glance.folder.parent / "over"
    cowherd.create(base, 1 << 20)
    cowherd.create(over, backing=str(base), backing_format="qcow2")
    return glance.image(over.read_bytes(), disk_format="qcow2")


def elsewhere(glance) -> str:
    (glance.folder / "secret").write_bytes(b"content")
    image_id = glance.image(b"content", url=f"file://{glance.folder / 'secret'}")
    glance.path(image_id).unlink()
    return image_id


def a_link(glance) -> str:
    image_id = elsewhere(glance)
    glance.path(image_id).symlink_to(glance.folder / "secret")
    return image_id


def in_ceph(glance) -> str:
    image_id = glance.image(b"content", url="rbd://fsid/images/x/snap")
    glance.path(image_id).unlink()
    return image_id


def on_the_web(glance) -> str:
    image_id = glance.image(b"content", url="https://mirror.example/x")
    glance.path(image_id).unlink()
    return image_id


def of_a_strange_hash(glance) -> str:
    return glance.image(b"content", os_hash_algo="shake_128")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (rotten, "md5"),
        (shorter, "6 bytes"),
        (missing, "no file store has"),
        (overlay, "backing-file"),
        (elsewhere, "in no directory"),
        (a_link, "in no directory"),
        (in_ceph, "rbd"),
        (on_the_web, "--http-store"),
        (of_a_strange_hash, "shake_128"),
    ],
)
def test_content_that_does_not_fit_is_told_and_can_not_be_read(glance, adopted_one, database, store, make, said):
    image_id = make(glance)
    before = glance.everything()
    outcome = adopted_one()
    assert (outcome.image, outcome.result) == (image_id, Result.WAITING)
    assert said in outcome.problem
    with database.read() as connection:
        (told,) = list_failures(connection, limit=2)
    assert said in told.detail["reason"]
    image = read(database, image_id)
    assert (image.status, image.blob, image.size, image.checksum, image.os_hash_value) == ("queued", None, None, None, None)
    assert said in image.reason
    assert str(glance.folder) not in image.reason
    assert list(store.digests()) == []
    assert store.incoming() == []
    assert glance.everything() == before


def test_the_hash_of_a_record_counts_where_it_has_no_md5(glance, adopted_one):
    image_id = glance.image(b"content", checksum=None, os_hash_algo="blake2b", os_hash_value="0" * 128)
    assert "blake2b" in adopted_one().problem
    glance.change(image_id, os_hash_algo=None, os_hash_value=None)
    assert adopted_one().result == Result.ADOPTED


def test_what_glance_has_no_hash_of_gets_one(glance, adopted_one, database):
    image_id = glance.image(b"content", checksum=None, os_hash_algo=None, os_hash_value=None, size=None)
    adopted_one(hash_algorithm="sha256")
    image = read(database, image_id)
    assert (image.checksum, image.os_hash_algo, image.size) == (facts_of(b"content")["checksum"], "sha256", 7)


def test_a_second_run_changes_nothing_and_says_so(glance, adopt, database):
    whole, queued, bad = glance.image(b"whole"), glance.image(status="queued"), rotten(glance)
    adopt()
    before = [read(database, one) for one in (whole, queued, bad)]
    again = adopt()
    assert {one.image: one.result for one in again.images} == {whole: Result.KNOWN, queued: Result.KNOWN, bad: Result.WAITING}
    assert again.problems == 1
    assert [read(database, one) for one in (whole, queued, bad)] == before
    with database.read() as connection:
        assert len(list_events(connection, actions=["image.adopt"])) == 3


def test_a_second_run_adopts_what_has_come_or_was_put_right_since(glance, adopt, database, store):
    bad, late = rotten(glance), glance.image(status="saving")
    adopt()
    glance.path(bad).write_bytes(b"content")
    glance.path(late).write_bytes(b"late")
    glance.of(late, "locations", value=f"file://{glance.path(late)}", meta_data="{}", status="active")
    glance.change(late, status="active", name="ready", updated_at="2026-01-01 00:00:00.000000", **facts_of(b"late"))
    assert adopt().problems == 0
    assert [read(database, one).status for one in (bad, late)] == [ACTIVE, ACTIVE]
    assert (read(database, late).name, read(database, late).reason) == ("ready", None)
    assert content(database, store, read(database, late)) == b"late"


def test_what_was_changed_here_is_left_as_it_is(glance, adopt, database):
    one, waiting = glance.image(b"one"), rotten(glance)
    adopt()
    with database.write() as connection:
        update_image(connection, msgspec.structs.replace(read_image(connection, one), name="ours"))
        update_image(connection, msgspec.structs.replace(read_image(connection, waiting), name="ours"))
    glance.path(waiting).write_bytes(b"content")
    outcomes = {one.image: one for one in adopt().images}
    assert (outcomes[one].result, outcomes[one].problem) == (Result.KNOWN, None)
    assert "upload its content" in outcomes[waiting].problem
    assert (read(database, one).name, read(database, waiting).status) == ("ours", "queued")


def test_what_was_changed_in_glance_since_is_told(glance, adopted_one, database):
    image_id = glance.image(b"one", name="before")
    adopted_one()
    glance.change(image_id, name="after", updated_at="2026-01-01 00:00:00.000000")
    outcome = adopted_one()
    assert outcome.result == Result.KNOWN
    assert "changed since" in outcome.problem
    assert read(database, image_id).name == "before"


def test_what_was_deleted_on_either_side_since_is_told_and_stays_so(glance, adopt, database):
    here, there = glance.image(b"here"), glance.image(b"there")
    adopt()
    with database.write() as connection:
        delete_image(connection, here)
        record_event(connection, Event(action="image.delete", image_id=here))
    glance.change(there, status="deleted", deleted=1)
    outcomes = {one.image: one for one in adopt().images}
    assert (outcomes[here].result, outcomes[here].problem) == (Result.DELETED, None)
    assert "deleted in Glance" in outcomes[there].problem
    assert read(database, there).status == ACTIVE


def test_an_image_of_ours_with_the_same_id_stays(glance, adopted_one, database):
    image_id = glance.image(b"theirs")
    ours = Image(id=image_id, name="ours", status="deactivated")
    with database.write() as connection:
        create_image(connection, ours)
    assert adopted_one().result == Result.KNOWN
    assert read(database, image_id) == ours


def test_a_dry_run_says_the_same_and_changes_nothing(glance, adopt, data, tmp_path):
    glance.image(b"whole")
    glance.image(b"off", status="deactivated")
    glance.image(status="queued")
    rotten(glance)
    overlay(glance)
    glance.namespace("N")
    before = glance.everything()
    (data / "records.sqlite").unlink()
    said = adopt(dry_run=True)
    assert list(data.iterdir()) == []
    assert glance.everything() == before
    done = adopt()
    assert [one._replace(how=None) for one in done.images] == list(said.images)
    assert done.namespaces == said.namespaces
    assert all(one.result in (Result.KNOWN, Result.WAITING) for one in adopt(dry_run=True).images)


def have_stores_cheap_and_fast(glance, fast):
    """Has a Glance keep images in two stores, the second one in a directory of its own."""
    fast.mkdir()
    glance.configure(
        "[DEFAULT]\nenabled_backends = cheap:file, fast:file\n[cheap]\nfilesystem_store_datadir = $store\n"
        f"[fast]\nfilesystem_store_datadir = {fast}\n"
    )


def test_stores_of_the_same_names_get_what_was_in_them(glance, adopt, database, data, tmp_path):
    have_stores_cheap_and_fast(glance, tmp_path / "fast")
    both, fast = glance.image(b"both", metadata='{"store": "cheap"}'), glance.image(b"fast", metadata='{"store": "fast"}')
    glance.of(both, "locations", value=f"file://{tmp_path / 'fast' / both}", meta_data='{"store": "fast"}', status="active")
    (tmp_path / "fast" / both).write_bytes(b"both")
    glance.path(fast).rename(tmp_path / "fast" / fast)  # found by its id where the location leads nowhere
    stores = tuple(f"{name}={data / name}" for name in ("cheap", "fast", "third"))
    assert adopt(stores=stores).problems == 0
    assert (read(database, both).stores, read(database, fast).stores) == (("cheap", "fast"), ("fast",))
    with database.read() as connection:
        assert all(one.identity for one in places_of(connection, read(database, both).blob))


def test_the_next_copy_is_taken_if_the_first_does_not_fit(glance, adopted_one, database, tmp_path):
    (tmp_path / "other").mkdir()
    glance.configure(
        f"[glance_store]\nfilesystem_store_datadirs = {tmp_path / 'other'}:5\nfilesystem_store_datadirs = $store:200\n"
    )
    image_id = rotten(glance)
    (tmp_path / "other" / image_id).write_bytes(b"content")
    outcome = adopted_one()
    assert outcome.result == Result.ADOPTED
    assert "md5" in outcome.problem
    assert read(database, image_id).status == ACTIVE


def test_an_image_of_no_bytes_as_nova_makes_them_is_adopted(glance, adopted_one, database, store):
    image_id = glance.image(b"", disk_format="qcow2")
    assert adopted_one().result == Result.ADOPTED
    image = read(database, image_id)
    assert (image.status, image.size, image.virtual_size) == (ACTIVE, 0, 0)
    assert findings(database, store) == []


def test_a_file_that_vanishes_meanwhile_is_told(glance, adopted_one, monkeypatch):
    image_id = glance.image(b"content")
    monkeypatch.setattr(Files, "of", lambda *_: [Found(glance.path(image_id), "file")])
    glance.path(image_id).unlink()
    assert "vanished" in adopted_one().problem


def test_content_on_the_web_stays_there_if_a_store_for_it_is_named(glance, adopted_one, database):
    image_id = on_the_web(glance)
    assert adopted_one(http_store="web").how == "on the web"
    image = read(database, image_id)
    assert image.locations == (Location("https://mirror.example/x"),)
    assert (image.status, image.blob, image.checksum) == (ACTIVE, None, facts_of(b"content")["checksum"])


def test_locations_that_are_encrypted_are_not_needed(glance, adopted_one):
    glance.configure("[DEFAULT]\nmetadata_encryption_key = 0123456789abcdef\n[glance_store]\nfilesystem_store_datadir = $store\n")
    glance.image(b"content", url="c2VjcmV0")
    assert adopted_one().result == Result.ADOPTED


def test_an_overlay_with_a_binding_is_adopted_with_its_base(glance, adopt, database, tmp_path):
    base, over = tmp_path / "base.qcow2", tmp_path / "over.qcow2"
    cowherd.create(base, 1 << 20)
    cowherd.seal(base)
    cowherd.clone(base, over)
    first = glance.image(base.read_bytes(), disk_format="qcow2", visibility="public")
    second = glance.image(over.read_bytes(), disk_format="qcow2", created_at="2024-06-01 00:00:00.000000")
    assert adopt().problems == 0
    assert read(database, second).base == first


def test_with_hard_links_files_are_the_same_read_only_ones(glance, adopted_one, database, store):
    image_id = glance.image(b"content")
    before = glance.path(image_id).stat()
    assert adopted_one(hard_links=True).how == "linked"
    image, after = read(database, image_id), glance.path(image_id).stat()
    assert store.path(image.blob).stat().st_ino == before.st_ino
    assert (after.st_mtime_ns, after.st_mode & 0o777, after.st_nlink) == (before.st_mtime_ns, 0o440, 2)
    assert content(database, store, image) == b"content"
    assert findings(database, store) == []


def test_with_hard_links_a_file_that_does_not_fit_is_as_it_was(glance, adopted_one):
    image_id = rotten(glance)
    before = glance.everything()
    assert adopted_one(hard_links=True).result == Result.WAITING
    assert glance.everything() == before
    assert glance.path(image_id).stat().st_nlink == 1


_KILLED = """
import importlib, os, pathlib, signal, sys
from cowherd.service.web.settings import Settings
from cowherd.service.web.upkeep import adopt_glance

data, configuration, module, name, number, *stores = sys.argv[1:]
module = importlib.import_module(module)
inner = getattr(module, name)
calls = 0

def counted(*args, **kwargs):
    global calls
    calls += 1
    if calls == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(*args, **kwargs)

setattr(module, name, counted)
adopt_glance(Settings(data=data, stores=tuple(stores)), pathlib.Path(configuration))
"""


def killed_adopting(glance, data, name, number=1, module="cowherd.service.glance.adopting", stores=()):
    """Adopts in another process, which is killed when it calls a function for so many times."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", _KILLED, data, glance.configuration, module, name, str(number), *stores]
    assert subprocess.run(words, env=environment, check=False).returncode == -signal.SIGKILL


@pytest.fixture
def in_two_stores(glance, data, tmp_path):
    """A Glance that has one image in two stores, and another one in one of them; returns their ids, and the stores here."""
    have_stores_cheap_and_fast(glance, tmp_path / "fast")
    made = glance.image(b"both", metadata='{"store": "cheap"}', created_at="2024-05-01 00:00:00.000000")
    glance.of(made, "locations", value=f"file://{tmp_path / 'fast' / made}", meta_data='{"store": "fast"}', status="active")
    (tmp_path / "fast" / made).write_bytes(b"both")
    other = glance.image(b"other", metadata='{"store": "cheap"}', created_at="2024-05-02 00:00:00.000000")
    return made, other, tuple(f"{name}={data / name}" for name in ("cheap", "fast"))


def results(adopted):
    return [one.result for one in adopted.images]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("cowherd.service.glance.copies", "copy_blob"),
        ("cowherd.service.tasks.copying", "_copy"),
        ("cowherd.service.tasks.copying", "record_place"),
        ("cowherd.service.glance.copies", "record_event"),
    ],
)
def test_a_copy_that_a_kill_left_undone_the_next_run_makes(in_two_stores, glance, adopt, database, data, module, name):
    both, other, stores = in_two_stores
    killed_adopting(glance, data, name, module=module, stores=stores)
    assert read(database, both).status == ACTIVE
    assert results(adopt(stores=stores, dry_run=True)) == [Result.ADOPTED, Result.ADOPTED]
    assert results(adopt(stores=stores)) == [Result.ADOPTED, Result.ADOPTED]
    assert (read(database, both).stores, read(database, other).stores) == (("cheap", "fast"), ("cheap",))
    assert results(adopt(stores=stores)) == [Result.KNOWN, Result.KNOWN]
    for store_name in ("cheap", "fast"):
        store = DirectoryStore(store_name, str(data / store_name))
        assert content(database, store, read(database, both)) == b"both"
        assert store.incoming() == []


def test_a_copy_that_was_deleted_here_since_does_not_come_back(in_two_stores, adopt, database, data):
    both, _, stores = in_two_stores
    adopt(stores=stores)
    with database.write() as connection:
        forget_place(connection, read(database, both).blob, "fast")
    assert results(adopt(stores=stores)) == [Result.KNOWN, Result.KNOWN]
    assert read(database, both).stores == ("cheap",)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: (path.chmod(0o600), path.write_bytes(b"rots"))])
def test_a_copy_that_can_not_be_made_is_told_and_the_next_image_adopted(in_two_stores, glance, adopt, database, data, damage):
    both, other, stores = in_two_stores
    killed_adopting(glance, data, "copy_blob", module="cowherd.service.glance.copies", stores=stores)
    damage(DirectoryStore("cheap", str(data / "cheap")).path(read(database, both).blob))
    adopted = adopt(stores=stores)
    assert results(adopted) == [Result.KNOWN, Result.ADOPTED]
    assert read(database, both).blob in adopted.images[0].problem
    assert read(database, other).status == ACTIVE


@pytest.mark.parametrize("name", ["make_blob", "record_arrived", "create_image", "record_event"])
def test_what_a_kill_left_undone_the_next_run_does(glance, adopt, database, store, data, name):
    ids = [
        glance.image(text, created_at=f"2024-05-0{day} 00:00:00.000000")
        for day, text in ((1, b"one"), (2, b"two"), (3, b"three"))
    ]
    killed_adopting(glance, data, name, 2)
    assert {one.image: one.result for one in adopt().images} == {
        ids[0]: Result.KNOWN,
        ids[1]: Result.ADOPTED,
        ids[2]: Result.ADOPTED,
    }
    assert [content(database, store, read(database, one)) for one in ids] == [b"one", b"two", b"three"]
    assert findings(database, store) == []
    assert store.incoming() == []


def test_an_upload_meanwhile_is_not_disturbed(glance, adopted_one, database, store, new_tables):
    image_id = rotten(glance)
    adopted_one()
    upload = Upload.begin(Intake(database, store), read(database, image_id), 5)
    glance.path(image_id).write_bytes(b"content")
    assert adopted_one().result == Result.KNOWN
    upload.feed(b"other")
    assert upload.finish().status == ACTIVE
    assert adopted_one()[3:] == (Result.KNOWN, None, None, None)


def test_a_record_that_can_not_be_kept_is_told_and_the_next_one_adopted(glance, adopt, database, store):
    bad = glance.image(b"bad", name="half\0", created_at="2024-01-01 00:00:00.000000")
    good = glance.image(b"good")
    outcomes = {one.image: one for one in adopt().images}
    assert outcomes[bad].result == Result.FAILED
    assert "NUL" in outcomes[bad].problem
    assert outcomes[good].result == Result.ADOPTED
    assert list(store.digests()) == [blake3(b"good").hexdigest()]


def test_progress_counts_to_the_end_whatever_was_read(glance, data):
    glance.image(b"whole")
    rotten(glance)
    missing(glance)
    told: list[tuple[int, int]] = []
    settings = Settings(data=str(data))
    for _ in range(2):
        adopt_glance(settings, glance.configuration, progress=lambda done, total: told.append((done, total)))
        assert told[-1] == (19, 19)
        assert all(done <= total for done, total in told)


def test_a_full_disk_ends_the_run_and_leaves_nothing_of_the_image(glance, adopt, store, monkeypatch):
    glance.image(b"content")
    monkeypatch.setattr(DirectoryStore, "free_bytes", lambda _: 3)
    with pytest.raises(StoreFull):
        adopt()
    assert store.incoming() == []
    monkeypatch.undo()
    assert adopt().problems == 0


def test_where_the_file_system_has_reflink_blocks_are_shared(tmp_path):
    with reflink_file_system(tmp_path) as place:
        glance = Glance(place / "glance")
        image_id = glance.image(os.urandom(1 << 20))
        before = glance.everything()
        (outcome,) = adopt_glance(Settings(data=str(place / "data")), glance.configuration).images
        assert (outcome.image, outcome.how) == (image_id, "shared")
        assert glance.everything() == before
        (blob,) = (path for path in (place / "data/store/blobs").glob("*/*") if not path.suffix)
        blob.chmod(0o600)
        blob.write_bytes(b"changed")
        assert glance.everything() == before
