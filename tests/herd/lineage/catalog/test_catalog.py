"""The catalog: later scans read less, and never say anything else than a scan without it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.herds import header, make_herd, write_image
from cowherd.herd.lineage.book.query import places_under
from cowherd.herd.lineage.catalog import catalog, store
from cowherd.herd.lineage.catalog.rows import unpack
from cowherd.herd.lineage.scan import scan
from cowherd.herd.lineage.survey import survey
from tests.herd.lineage.catalog.watching import counted_reads, facts, settle, without_catalog


@pytest.fixture
def herd(folder, cache):
    """Forty images in two directories, which the catalog knows."""
    make_herd(folder / "images", 40, in_directory=20)
    settle()
    scan(places_under([folder]))
    return folder


def truth(*directories) -> dict[str, object]:
    with without_catalog():
        return facts(*directories)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Gives a connection to a database for one transaction."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        yield database


def remembered(cache) -> int:
    """How many files the catalog has rows of."""
    with opened(cache) as database:
        return sum(len(unpack(data)) for (data,) in database.execute("SELECT rows FROM directories"))


def test_what_has_not_changed_is_not_opened_again(herd, cache):
    with counted_reads() as read:
        found = scan(places_under([herd]))
    assert read == []
    assert len(found.images) == 40
    assert found.catalog == cache


def test_only_what_has_changed_is_opened(herd):
    write_image(herd / "images" / "00001" / "image-000030.qcow2", header("image-000021.qcow2"))
    with counted_reads() as read:
        lineage = survey([herd])
    assert read == ["image-000030.qcow2"]
    image = lineage.find(herd / "images" / "00001" / "image-000030.qcow2")
    assert lineage.parent(image).path.name == "image-000021.qcow2"


def test_a_rewrite_whose_times_were_set_back_is_seen(herd):
    path = herd / "images" / "00000" / "image-000011.qcow2"
    before = path.stat()
    write_image(path, header("image-000009.qcow2"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    lineage = survey([herd])
    assert lineage.parent(lineage.find(path)).path.name == "image-000009.qcow2"


def test_what_changed_a_moment_ago_is_read_again_each_time(folder, cache, monkeypatch):
    monkeypatch.setattr(catalog, "SETTLED_NS", 3600 * 10**9)
    make_herd(folder, 3)
    for _ in range(2):
        with counted_reads() as read:
            scan(places_under([folder]))
        assert len(read) == 3


def test_a_rescan_reads_everything_and_remembers_it(herd):
    token = catalog.rescanning.set(True)
    with counted_reads() as read:
        scan(places_under([herd]))
    catalog.rescanning.reset(token)
    assert len(read) == 40
    with counted_reads() as read:
        scan(places_under([herd]))
    assert read == []


def test_it_can_be_switched_off(folder, cache, monkeypatch):
    monkeypatch.setenv("COWHERD_CATALOG", "off")
    make_herd(folder, 5)
    assert scan(places_under([folder])).catalog is None
    assert not cache.parent.exists()


def test_a_small_herd_needs_none(folder, cache, monkeypatch):
    monkeypatch.setattr(catalog, "WORTHWHILE", 6)
    make_herd(folder, 5)
    scan(places_under([folder]))
    assert not cache.parent.exists()


def test_one_directory_is_known_from_the_scan_of_all(herd):
    with counted_reads() as read:
        assert len(scan(places_under([], [herd / "images" / "00001"])).images) == 20
    assert read == []


def test_files_that_are_no_images_are_known_too(folder, cache):
    (folder / "notes").write_bytes(b"x" * 100)
    settle()
    scan(places_under([folder]))
    with counted_reads() as read:
        scan(places_under([folder]))
    assert read == []


def test_names_that_are_not_text_are_known_too(folder, cache):
    write_image(os.path.join(os.fsencode(folder), b"odd\xff"), header())
    write_image(folder / "even", header("odd\udcff"))
    settle()
    assert facts(folder) == truth(folder)
    with counted_reads() as read:
        found = facts(folder)
    assert read == []
    assert found == truth(folder)


def test_rows_of_files_that_are_gone_are_dropped(herd, cache):
    for number in range(5):
        (herd / "images" / "00001" / f"image-00003{number}.qcow2").unlink()
    scan(places_under([herd]))
    assert remembered(cache) == 35


def test_directories_that_nobody_looks_at_any_more_are_dropped(herd, cache):
    with opened(cache) as database:
        database.execute("UPDATE directories SET used = used - 100 WHERE path LIKE '%00000'")
    write_image(herd / "images" / "00001" / "new", header())
    settle()
    scan(places_under([], [herd / "images" / "00001"]))
    with opened(cache) as database:
        assert database.execute("SELECT count(*) FROM directories WHERE path LIKE '%00000'").fetchone() == (0,)
    assert remembered(cache) == 21


def test_directories_that_are_looked_at_stay(herd, cache):
    with opened(cache) as database:
        database.execute("UPDATE directories SET used = used - 30")
    scan(places_under([herd]))
    with opened(cache) as database:
        (oldest,) = database.execute("SELECT min(used) FROM directories WHERE path LIKE '%/0000_'").fetchone()
    assert oldest == int(time.time() / 86400)


@pytest.mark.parametrize("keep", [0, 50, 3000, 5000])
def test_a_catalog_that_was_cut_off_is_thrown_away_and_made_anew(herd, cache, caplog, keep, monkeypatch):
    monkeypatch.setattr(catalog, "is_named", lambda: False)
    with cache.open("r+b") as file:
        file.truncate(keep)
    assert facts(herd) == truth(herd)
    assert len(caplog.records) == 1
    assert all("was damaged; it is made anew" in record.getMessage() for record in caplog.records)
    with counted_reads() as read:
        scan(places_under([herd]))
    assert read == []


def test_no_flipped_byte_makes_it_say_anything_else(herd, cache, monkeypatch):
    expected, sound = truth(herd), cache.read_bytes()
    places = range(0, len(sound), 211)
    for place in places:
        cache.write_bytes(sound[:place] + bytes([sound[place] ^ 0x41]) + sound[place + 1 :])
        assert facts(herd) == expected
        for suffix in ("-wal", "-shm"):
            cache.with_name(cache.name + suffix).unlink(missing_ok=True)


def test_what_is_no_catalog_is_left_alone(folder, cache, caplog):
    make_herd(folder, 5)
    cache.parent.mkdir()
    cache.write_bytes(b"a letter to my aunt" * 100)
    assert len(scan(places_under([folder])).images) == 5
    assert cache.read_bytes() == b"a letter to my aunt" * 100
    assert "it is something else" in caplog.text


def test_another_programs_database_is_left_alone(folder, cache, caplog):
    make_herd(folder, 5)
    cache.parent.mkdir()
    with opened(cache) as database:
        database.execute("CREATE TABLE files (directory, name, row)")
    before = cache.read_bytes()
    assert len(scan(places_under([folder])).images) == 5
    assert cache.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_catalog_is_not_believed(herd, cache, caplog):
    os.chown(cache, 12345, 12345)
    with counted_reads() as read:
        scan(places_under([herd]))
    assert len(read) == 40
    assert "it belongs to another user" in caplog.text


def test_a_catalog_that_others_may_write_to_is_not_believed(herd, cache, caplog):
    cache.chmod(0o666)
    with counted_reads() as read:
        scan(places_under([herd]))
        scan(places_under([herd]))
    assert len(read) == 80
    assert caplog.text.count("others may write to it") == 1


def test_the_catalog_is_its_owners_alone(herd, cache):
    assert cache.stat().st_mode & 0o777 == 0o600
    assert cache.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("place", ["/proc/none/catalog", "/dev/null/catalog", "/dev/full"])
def test_where_none_can_be_made_scans_go_on_without(folder, cache, monkeypatch, place):
    monkeypatch.setenv("COWHERD_CATALOG", place)
    make_herd(folder, 5)
    found = scan(places_under([folder]))
    assert len(found.images) == 5
    assert found.catalog is None


def test_while_another_process_writes_it_scans_go_on_and_remember_nothing(herd, cache, monkeypatch):
    monkeypatch.setattr(store, "_BUSY_SECONDS", 0.05)
    write_image(herd / "new", header())
    settle()
    with contextlib.closing(sqlite3.connect(cache, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with counted_reads() as read:
            assert len(scan(places_under([herd])).images) == 41
        other.execute("ROLLBACK")
    assert read == ["new"]
    with counted_reads() as read:
        scan(places_under([herd]))
    assert read == ["new"]


def test_processes_that_scan_at_once_all_see_the_herd(folder, cache):
    make_herd(folder, 600, in_directory=50)
    settle()
    code = (
        "import sys\nfrom cowherd.herd.lineage.catalog import catalog\nfrom cowherd.herd.lineage.survey import survey\n"
        "catalog.WORTHWHILE, catalog.SETTLED_NS = 0, 10**7\n"
        "for _ in range(5):\n    lineage = survey([sys.argv[1]])\n"
        "    assert len(lineage.images) == 600 and len(lineage.roots()) == 1\n"
    )
    words = [sys.executable, "-c", code, str(folder)]
    running = [
        subprocess.Popen(words, env=os.environ | {"PYTHONPATH": "src"}, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [process.communicate()[1] for process in running] == [""] * 4
    assert [process.returncode for process in running] == [0] * 4
    with counted_reads() as read:
        scan(places_under([folder]))
    assert read == []


def test_where_times_may_lag_behind_it_is_not_used(folder, cache, monkeypatch):
    monkeypatch.setattr(catalog, "times_are_reliable", lambda _place: False)
    make_herd(folder, 5)
    settle()
    scan(places_under([folder]))
    assert scan(places_under([folder])).catalog is None
    assert not cache.parent.exists()
