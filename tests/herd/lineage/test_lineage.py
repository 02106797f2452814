from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys

import pytest

from bench.herds import header, make_herd, write_image
from cowherd.errors import HostFileError
from cowherd.herd.lineage import scan as scanning
from cowherd.herd.lineage.book.query import places_under
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import journals_in
from cowherd.herd.lineage.scan import scan
from cowherd.herd.lineage.survey import survey, survey_around
from cowherd.herd.records.journal import look_at
from cowherd.herd.records.ownership import JOURNAL_MAGIC
from cowherd.herd.seals.seal import seal
from cowherd.storage.hostfile import HostFile
from tests.herd.qemu_herd import make_base, make_overlay, noise, qemu_img
from tests.reliability.calls import played_reflinks

pytestmark = pytest.mark.qemu


def names(images) -> list[str]:
    return [image.path.name for image in images]


@pytest.fixture
def herd(tmp_path):
    """root <- middle <- (leaf, other); root <- lone"""
    make_base(tmp_path / "root", noise(65536))
    make_overlay(tmp_path / "middle", "root")
    make_overlay(tmp_path / "leaf", "middle")
    make_overlay(tmp_path / "other", "middle")
    make_overlay(tmp_path / "lone", "root")
    return tmp_path


def test_relations_are_found_at_all_depths(herd):
    lineage = survey([herd])
    root, middle, leaf = (lineage.find(herd / name) for name in ("root", "middle", "leaf"))
    assert names(lineage.children(root)) == ["lone", "middle"]
    assert names(lineage.dependents(root)) == ["leaf", "lone", "middle", "other"]
    assert names(lineage.chain(leaf)) == ["leaf", "middle", "root"]
    assert names(lineage.siblings(leaf)) == ["other"]
    assert names(lineage.siblings(middle)) == ["lone"]
    assert lineage.parent(root) is None
    assert names(lineage.roots()) == ["root"]


def test_walking_goes_from_each_base_to_its_overlays(herd):
    walked = [(depth, image.path.name) for depth, image, _ in survey([herd]).walk()]
    assert walked == [(0, "root"), (1, "lone"), (1, "middle"), (2, "leaf"), (2, "other")]


def test_below_a_named_directory_and_below_an_images_own_everything_counts(herd):
    (herd / "one" / "two").mkdir(parents=True)
    make_overlay(herd / "one" / "near", "../root")
    make_overlay(herd / "one" / "two" / "far", "../../root")
    for lineage in (survey_around(herd / "root"), survey([herd])):
        assert {"near", "far"} <= set(names(lineage.dependents(lineage.find(herd / "root"))))


def test_a_base_outside_of_the_directories_is_found_through_its_overlay(herd, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    make_overlay(elsewhere / "o", herd / "middle")
    lineage = survey([elsewhere])
    assert names(lineage.chain(lineage.find(elsewhere / "o"))) == ["o", "middle", "root"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_base_with_two_names_is_one_base(herd, link):
    link(herd / "root", herd / "alias")
    make_overlay(herd / "o", "alias")
    lineage = survey([herd])
    assert lineage.find(herd / "alias") == lineage.find(herd / "root")
    assert "o" in names(lineage.dependents(lineage.find(herd / "root")))


def test_a_link_to_an_overlay_is_followed_as_qemu_does_from_where_the_link_lies(herd):
    """QEMU looks for a relative backing file beside the name that it was given."""
    (herd / "sub").mkdir()
    make_base(herd / "sub" / "root", noise(65536, 1))
    (herd / "sub" / "alias").symlink_to("../lone")
    lineage = survey([herd])
    assert "lone" in names(lineage.dependents(lineage.find(herd / "sub" / "root")))
    assert "lone" in names(lineage.dependents(lineage.find(herd / "root")))


def test_a_missing_base_is_a_broken_link(herd):
    (herd / "root").unlink()
    lineage = survey([herd])
    broken = lineage.broken(lineage.find(herd / "middle"))
    assert (broken.path, broken.problem) == (herd / "root", "No such file or directory")
    assert lineage.broken(lineage.find(herd / "leaf")) is None


@pytest.mark.parametrize("name", ["nbd://host/disk", "json:{}", "json:[[", 'json:{"file":{"filename":"a\\u0000b"}}', "x" * 300])
def test_a_backing_file_that_is_no_file_is_a_broken_link(tmp_path, name):
    make_base(tmp_path / "root", noise(65536))
    overlay = make_overlay(tmp_path / "o", "root")
    qemu_img("rebase", "-u", "-b", name, "-F", "raw", overlay)
    lineage = survey([tmp_path])
    assert lineage.broken(lineage.find(overlay)).problem


def test_a_json_name_is_followed(herd):
    name = json.dumps({"driver": "qcow2", "file": {"driver": "file", "filename": str(herd / "root")}})
    qemu_img("rebase", "-u", "-b", f"json:{name}", "-F", "qcow2", herd / "leaf")
    lineage = survey([herd])
    assert names(lineage.chain(lineage.find(herd / "leaf"))) == ["leaf", "root"]


def test_a_loop_ends(herd):
    qemu_img("rebase", "-u", "-b", "leaf", "-F", "qcow2", herd / "middle")
    lineage = survey([herd])
    middle = lineage.find(herd / "middle")
    assert lineage.in_loop(middle)
    assert names(lineage.chain(middle)) == ["middle", "leaf"]
    assert names(lineage.dependents(middle)) == ["leaf", "other"]
    assert len(list(lineage.walk())) == 5


def test_a_raw_file_counts_if_an_overlay_or_a_seal_names_it(tmp_path):
    for name in ("named", "sealed", "stray"):
        (tmp_path / name).write_bytes(noise(65536))
    make_overlay(tmp_path / "o", "named", base_format="raw")
    seal(tmp_path / "sealed")
    lineage = survey([tmp_path])
    assert sorted(names(lineage.images.values())) == ["named", "o", "sealed"]
    assert {image.format for image in lineage.images.values() if image.path.name != "o"} == {"raw"}


def test_a_guest_cannot_make_its_raw_disk_an_overlay(tmp_path):
    """The owner recorded it as raw; what a guest writes into its first bytes names no backing file."""
    make_base(tmp_path / "secret", noise(65536))
    make_overlay(tmp_path / "guest.raw", "secret")
    make_overlay(tmp_path / "o", "guest.raw", base_format="raw")
    lineage = survey([tmp_path])
    assert names(lineage.chain(lineage.find(tmp_path / "o"))) == ["o", "guest.raw"]
    assert "begins like a qcow2 image" in lineage.find(tmp_path / "guest.raw").problem


def test_odd_things_in_a_directory_are_passed_over(herd):
    os.mkfifo(herd / "pipe")
    (herd / "loop").symlink_to("loop")
    (herd / "dangling").symlink_to("nowhere")
    (herd / "back").symlink_to(herd)
    (herd / "short").write_bytes(b"QFI\xfb")
    (herd / "text").write_text("hello" * 100)
    lineage = survey([herd])
    assert len(lineage.images) == 5
    assert lineage.unreadable == ()


def test_names_with_newlines_and_stray_bytes_are_names(tmp_path):
    odd = os.fsdecode(b"a\n\x1b[31m\xff b")
    make_base(tmp_path / odd, noise(65536))
    make_overlay(tmp_path / "o", odd)
    lineage = survey([tmp_path])
    assert names(lineage.chain(lineage.find(tmp_path / "o"))) == ["o", odd]


def test_a_damaged_header_is_a_problem_of_that_image_alone(herd):
    with (herd / "lone").open("r+b") as file:
        file.seek(20)
        file.write(b"\xff" * 4)
    lineage = survey([herd])
    assert "cluster size" in lineage.find(herd / "lone").problem
    assert names(lineage.dependents(lineage.find(herd / "root"))) == ["leaf", "middle", "other"]


def test_a_file_that_may_not_be_read_is_counted(herd, monkeypatch):
    def refuse(path, *arguments, real=os.open, **options):
        if os.fspath(path) == os.fspath(herd / "leaf"):
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert survey([herd]).unreadable == (herd / "leaf",)


def test_a_directory_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(HostFileError, match="No such file"):
        survey([tmp_path / "none"])


def test_an_image_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(HostFileError, match="No such file"):
        survey([tmp_path]).find(tmp_path / "none")


def test_a_directory_is_not_an_image(tmp_path):
    with pytest.raises(HostFileError):
        survey([tmp_path]).find(tmp_path)


def test_a_seal_whose_image_is_gone_is_an_orphan(herd):
    seal(herd / "root")
    (herd / "root").unlink()
    assert survey([herd]).orphans == (herd / "root",)


def test_a_shadow_is_not_a_member_of_the_herd(herd):
    with played_reflinks():
        seal(herd / "root", shadow=True)
    shadow = herd / "root.shadow"
    assert shadow.exists()
    assert shadow not in {image.path for image in survey([herd]).images.values()}
    shadow.unlink()
    shadow.write_bytes((herd / "root").read_bytes())
    assert shadow in {image.path for image in survey([herd]).images.values()}, "another file has only its name"


def test_finding_the_herd_needs_no_numpy():
    modules = "cowherd.herd.seals.verify, cowherd.herd.report.tree, cowherd.herd.gate.gate"
    code = f"import sys, {modules}; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONPATH": "src"}).returncode == 0


def test_an_image_that_gets_another_name_by_its_overlay_is_followed_from_both(tmp_path):
    write_image(tmp_path / "a", header())
    write_image(tmp_path / "b", header("a"))
    (tmp_path / "link").symlink_to(".")
    write_image(tmp_path / "A", header("link/b"))
    lineage = survey([tmp_path])
    image = lineage.find(tmp_path / "b")
    assert [link.path for link in lineage.links(image)] == [tmp_path / "a", tmp_path / "link" / "a"]
    assert {link.target for link in lineage.links(image)} == {lineage.find(tmp_path / "a").key}


def test_an_image_that_records_itself_as_raw_stands_on_nothing(tmp_path):
    (tmp_path / "sub").mkdir()
    write_image(tmp_path / "sub" / "a", header("sub/a", "raw"))
    (tmp_path / "link").symlink_to("sub/a")
    lineage = survey([tmp_path])
    image = lineage.find(tmp_path / "link")
    assert image.format == "raw"
    assert lineage.links(image) == ()
    assert lineage.parent(image) is None


_TREE_OF_READ = "import sys; from cowherd.cli.guard.main import main; from cowherd.herd.lineage import pool, reading; "


def test_very_many_images_are_read_by_processes_as_they_are_by_threads(tmp_path):
    make_herd(tmp_path, 5000)
    (tmp_path / "00001" / "image-001001.qcow2").write_bytes(b"QFI\xfb" + bytes(200))
    by_processes, by_threads = (
        subprocess.run(
            [sys.executable, "-c", f"{_TREE_OF_READ}{setup}sys.exit(main(['tree', '--json', {str(tmp_path)!r}]))"],
            env=os.environ | {"COWHERD_CATALOG": "off"},
            capture_output=True,
            check=True,
        ).stdout
        for setup in ("pool.ThreadPoolExecutor = None; ", "reading._MANY = 1 << 30; ")
    )
    assert len(json.loads(by_processes)["images"]) == 5000
    assert by_processes == by_threads


def test_of_images_that_record_each_other_as_raw_the_first_by_name_decides_whatever_was_read_first(tmp_path):
    write_image(tmp_path / "a", header("b", "raw"))
    write_image(tmp_path / "b", header("a", "raw"))
    found = scan(places_under([tmp_path]))
    turned = scan(places_under([tmp_path]))
    turned.images = dict(reversed(turned.images.items()))
    told = [{image.path.name: image.format for image in Lineage(one).images.values()} for one in (found, turned)]
    assert told == [{"a": "qcow2", "b": "raw"}] * 2


def test_of_seals_on_two_names_of_a_file_the_same_counts_in_whatever_order_they_were_met(tmp_path, monkeypatch):
    """A catalog that knows one of the seals has it met before the other."""
    (tmp_path / "a").write_bytes(bytes(512))
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    recorded = {str(tmp_path / "a"): "qcow2", str(tmp_path / "b"): "raw"}
    found = []
    for order in (recorded, dict(reversed(recorded.items()))):
        monkeypatch.setattr(scanning._Scan, "run", lambda self, order=order: order)
        found.append(scanning.scan(places_under([tmp_path])).images)
    assert found[0] == found[1]


def test_a_directory_that_has_gone_has_no_journals_and_one_that_can_not_be_read_is_an_error(tmp_path, monkeypatch):
    assert journals_in(tmp_path / "gone") == []
    (tmp_path / "file").touch()
    with pytest.raises(HostFileError, match="look through"):
        journals_in(tmp_path / "file")


def test_a_journal_that_vanishes_while_it_is_looked_at_is_none_and_one_that_can_not_be_read_is_an_error(tmp_path, monkeypatch):
    journal = tmp_path / "base.merge"
    journal.write_bytes(JOURNAL_MAGIC)
    for number, outcome in ((errno.ENOENT, contextlib.nullcontext()), (errno.EIO, pytest.raises(HostFileError))):
        failed = HostFileError(journal, "open", OSError(number, os.strerror(number)))
        with monkeypatch.context() as patched, outcome:
            patched.setattr(HostFile, "open", lambda *words, failed=failed, **more: throw(failed))
            assert look_at(journal) is None


def throw(error):
    raise error
