"""Records that somebody else has put into a directory: nothing outside is touched, no right is given, no traceback shown.

A tree of canaries lies beside the directory; it must stay as it is byte for byte, with modes and times, whatever root does there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cowherd.cli.guard.main import main
from cowherd.herd.merge.recover import FAILED, TAKEN_BACK, recover
from cowherd.herd.overlays.clone import clone
from cowherd.herd.records.journal import Entry, Phase, look_at
from cowherd.herd.records.ownership import TRASH
from cowherd.herd.records.sealfile import read_record
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.seals.verify import verify
from cowherd.herd.trash.trash import empty_trash, restore, trash, trashed
from cowherd.storage.protection import Protection
from tests.herd.qemu_herd import make_base, make_overlay, noise
from tests.storage.hosts import NOBODY, require_root

pytestmark = pytest.mark.qemu("qemu-io")

CONTENT = noise(1 << 17)
NAMES = ("../canaries/file", "/etc/passwd", "../canaries", "..", ".", "", "a\0b", "\ud800", "x" * 300, "base", "o", "sub/base")
ODD = st.one_of(
    st.sampled_from(
        [*NAMES, *({"a": 1}, [], [[]], [["x"]], True, None, -1, 1 << 70, 1e300, float("nan"), float("inf"), "\x1b[2J")]
    ),
    st.lists(st.sampled_from(NAMES), max_size=3),
    st.integers(),
    st.text(max_size=5),
)
JOURNAL_FIELDS = tuple(Entry._fields)
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class Herd:
    """A directory with a sealed base and its overlay `o`, and canaries beside it."""

    def __init__(self, root: Path):
        self.root, self.directory, self.canaries = root, root / "herd", root / "canaries"
        (self.canaries / "below").mkdir(parents=True)
        for name in ("file", "below/file", "base", "o"):
            (self.canaries / name).write_text(f"precious {name}")
            (self.canaries / name).chmod(0o600)
        self.directory.mkdir()
        base = make_base(self.directory / "base", CONTENT)
        base.chmod(0o640)
        seal(base, level=Protection.READONLY)
        clone(base, self.directory / "o")
        self.kept = root / "kept"
        shutil.copytree(self.directory, self.kept)
        self.before = self.outside()

    def renew(self) -> None:
        """Makes the directory what it was, with a seal that holds."""
        shutil.rmtree(self.directory)
        shutil.copytree(self.kept, self.directory)
        verify([self.directory / "base"], full=True, refresh_seals=True)

    def outside(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path in sorted(self.canaries.rglob("*")):
            info = path.lstat()
            found[os.fspath(path)] = (info.st_mode, info.st_ino, info.st_mtime_ns, path.is_file() and path.read_bytes())
        return found

    def run(self, *words: str) -> int:
        """Runs a command as a person would; it ends with an exit code of its own, and the canaries are as they were."""
        here = Path.cwd()
        os.chdir(self.directory)
        try:
            code = main(list(words))
        finally:
            os.chdir(here)
        assert code in range(5), f"{words}: {code}"
        assert self.outside() == self.before, words
        assert {path.name for path in self.root.iterdir()} == {"herd", "canaries", "kept"}
        return code


@pytest.fixture
def herd(tmp_path):
    return Herd(tmp_path)


def rewrite_seal(path: Path, changes: dict[str, Any]) -> None:
    from blake3 import blake3

    data = path.read_bytes()
    prefix = struct.Struct("<8sIII4xQQ")
    magic, version, length, _, runs, digests = prefix.unpack_from(data)
    record = json.loads(data[prefix.size : prefix.size + length]) | changes
    text = json.dumps(record).encode()
    body = prefix.pack(magic, version, len(text), zlib.crc32(text), runs, digests) + text + data[prefix.size + length : -32]
    path.unlink()
    path.write_bytes(body + blake3(body).digest())


def write_journal(path: Path, changes: dict[str, Any], *, phase: Phase = Phase.PREPARING) -> None:
    record = {
        "strategy": "fork",
        "keep": "nothing",
        "overlay": "o",
        "base": "base",
        "base_format": "qcow2",
        "images": ["base", "o"],
        "changed": [],
        "witnesses": [],
        "temporary": ".cowherd-0123456789abcdef",
        "fork": "base-merged",
        "begun": "now",
        "made_by": "x",
    }
    text = json.dumps(record | changes).encode()
    crc = zlib.crc32(text)
    phases = b"" if phase is Phase.PREPARING else struct.pack("<II", phase, zlib.crc32(int(phase).to_bytes(4, "little"), crc))
    path.write_bytes(struct.pack("<8sIII4x", b"cowmerge", 1, len(text), crc) + text + phases)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return Herd(tmp_path_factory.mktemp("hostile"))


SEAL_FIELDS = (
    *("seal_id", "generation", "content_digest", "size", "block_size", "format", "file", "chain", "level", "mode_before"),
    *("immutable_before", "shadow", "shadow_file", "created", "made_by", "signature"),
)


@SLOW
@given(st.dictionaries(st.sampled_from(SEAL_FIELDS), ODD, min_size=1, max_size=3))
@example({"shadow": "../canaries/file"})
@example({"mode_before": 0o6777})
def test_whatever_a_seal_says_nothing_outside_is_touched(shared, changes):
    shared.renew()
    rewrite_seal(shared.directory / "base.seal", changes)
    for words in (
        ("tree", "."),
        ("verify", "."),
        ("doctor", "."),
        ("gc", "--clean", "."),
        ("seal", "base", "--level", "readonly"),
        ("repair", "base"),
        ("rename", "base", "new"),
        ("rename", "new", "base"),
        ("unseal", "--force", "base"),
    ):
        shared.run(*words)
    for name in ("base", "new"):
        with contextlib.suppress(FileNotFoundError):
            mode = (shared.directory / name).stat().st_mode & 0o7777
            assert mode & ~0o770 == 0, oct(mode)


@SLOW
@given(st.dictionaries(st.sampled_from(JOURNAL_FIELDS), ODD, min_size=1, max_size=3), st.sampled_from(list(Phase)))
@example({"temporary": "../canaries/file"}, Phase.PREPARING)
@example({"temporary": "../canaries/file", "fork": "../canaries/new"}, Phase.APPLYING)
@example({"overlay": "../canaries/file", "strategy": "preserve", "temporary": None, "fork": None}, Phase.APPLYING)
@example({"base": "../canaries/base", "images": ["../canaries/base"]}, Phase.APPLYING)
def test_whatever_a_journal_says_nothing_outside_is_touched(shared, changes, phase):
    shared.renew()
    write_journal(shared.directory / "base.merge", changes, phase=phase)
    for words in (("verify", "."), ("tree", "."), ("doctor", "."), ("gc", "--clean", "."), ("recover", ".")):
        shared.run(*words)


TRASH_FIELDS = ("version", "path", "deleted", "dependents", "identity", "sealed", "immutable")


@SLOW
@given(st.dictionaries(st.sampled_from(TRASH_FIELDS), ODD, min_size=1, max_size=3))
@example({"path": "/etc/cron.d/base"})
@example({"path": "/x/.."})
def test_whatever_a_record_in_the_trash_says_nothing_outside_is_touched(shared, changes):
    shared.renew()
    with contextlib.chdir(shared.directory):
        (entry,) = trash([shared.directory / "o"])
    record = json.loads(entry.record.read_text()) | changes
    entry.record.write_text(json.dumps(record))
    for words in (
        ("trash", "list", "."),
        ("doctor", "."),
        ("gc", "--clean", "."),
        ("trash", "restore", entry.id, "--herd", "."),
        ("trash", "empty", ".", "--force"),
    ):
        shared.run(*words)


@pytest.mark.parametrize("place", ["trash", "directory", "record", "image"])
def test_a_link_in_the_trash_is_left_and_told(herd, capsys, place):
    (entry,) = trash([herd.directory / "o"])
    linked = {"trash": entry.trash, "directory": entry.directory, "record": entry.record, "image": entry.image}[place]
    elsewhere = herd.canaries / linked.name
    linked.rename(elsewhere)
    linked.symlink_to(elsewhere)
    herd.before = herd.outside()
    assert trashed([herd.directory]) == []
    assert empty_trash([herd.directory]) == []
    assert herd.run("gc", "--clean", ".") == 0
    assert "unproven" in capsys.readouterr().out
    assert herd.run("trash", "list", ".") == 0
    assert "left alone" in capsys.readouterr().err
    assert herd.run("trash", "restore", "o") != 0
    assert linked.is_symlink()


def test_nothing_is_put_into_a_trash_that_is_a_link_or_somebody_else_s(herd):
    (herd.directory / TRASH).symlink_to(herd.canaries)
    herd.before = herd.outside()
    assert herd.run("delete", "o") == 1
    (herd.directory / TRASH).unlink()
    (herd.directory / TRASH).mkdir(0o700)
    (herd.directory / TRASH).chmod(0o777)
    assert herd.run("delete", "o") == 1
    require_root()
    (herd.directory / TRASH).chmod(0o700)
    os.chown(herd.directory / TRASH, NOBODY, NOBODY)
    assert herd.run("delete", "o") == 1
    assert (herd.directory / "o").exists()
    assert list((herd.directory / TRASH).iterdir()) == []


def test_a_trash_that_others_could_write_in_vouches_for_no_seal(herd):
    require_root()
    (entry,) = trash([herd.directory / "base"], force=True)
    os.chown(entry.trash, NOBODY, NOBODY)
    assert not restore(herd.directory / "base").sealed


def test_where_a_trash_was_moved_to_with_its_directory_images_come_back(herd):
    trash([herd.directory / "o"])
    moved = herd.root / "moved"
    herd.directory.rename(moved)
    assert restore(moved / "o").path == moved / "o"


@contextlib.contextmanager
def nobodys(*paths: Path) -> Iterator[None]:
    require_root()
    for path in paths:
        os.chown(path, NOBODY, NOBODY)
    yield


def test_a_journal_of_a_user_who_may_not_do_what_it_says_is_left_alone(herd):
    journal = herd.directory / "base.merge"
    unfinished = herd.directory / ".cowherd-0123456789abcdef"
    unfinished.write_bytes(b"root's")
    write_journal(journal, {})
    with nobodys(journal):
        (done,) = recover([herd.directory])
        assert (done.outcome, done.error.exit_code) == (FAILED, 1)
        assert "chown" in str(done.error)
        assert unfinished.exists()
        assert journal.exists()
    with nobodys(unfinished, herd.directory / "base", herd.directory / "o"):
        (done,) = recover([herd.directory])
        assert done.outcome == TAKEN_BACK
        assert not unfinished.exists()


def test_a_journal_that_others_may_write_to_is_left_alone(herd):
    journal = herd.directory / "base.merge"
    write_journal(journal, {})
    journal.chmod(0o666)
    (done,) = recover([herd.directory])
    assert done.outcome == FAILED
    assert "others" in str(done.error)


def test_an_unfinished_file_that_is_a_base_or_a_link_is_not_taken_back(herd):
    unfinished = herd.directory / ".cowherd-0123456789abcdef"
    make_base(unfinished, CONTENT)
    make_overlay(herd.directory / "p", unfinished.name)
    write_journal(herd.directory / "base.merge", {})
    assert herd.run("recover", ".") == 1
    assert unfinished.exists()
    (herd.directory / "p").unlink()
    unfinished.unlink()
    unfinished.symlink_to(herd.canaries / "file")
    assert herd.run("recover", ".") == 1


@pytest.mark.parametrize("many", [1, 2])
def test_a_new_base_that_is_a_link_or_has_other_names_gets_no_mode(herd, many):
    unfinished = herd.directory / ".cowherd-0123456789abcdef"
    if many == 1:
        unfinished.symlink_to(herd.canaries / "file")
    else:
        os.link(herd.canaries / "file", unfinished)
    herd.before = herd.outside()
    write_journal(herd.directory / "base.merge", {}, phase=Phase.APPLYING)
    assert herd.run("recover", ".") in (1, 4)


def test_a_journal_is_of_the_base_that_it_lies_beside(herd):
    write_journal(herd.directory / "o.merge", {})
    seen = look_at(herd.directory / "o.merge")
    assert seen.entry is None
    assert "damaged" in (seen.problem or "")


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [(0o600, 0o6777, 0o700), (0o644, 0o6777, 0o744), (0o640, 0o777, 0o740), (0o664, 0o664, 0o664), (0o666, 0o666, 0o664)],
)
def test_nobody_gets_back_more_than_the_permissions_of_who_had_some(tmp_path, mode, before, after):
    base = make_base(tmp_path / "base", CONTENT)
    base.chmod(mode)
    done = seal(base, level=Protection.READONLY)
    rewrite_seal(done.seal, {"mode_before": before})
    unseal(base)
    assert oct(base.stat().st_mode & 0o7777) == oct(after)


def test_a_stranger_s_seal_gives_no_more_than_the_owner_s_write_bit_also_when_root_seals_again(tmp_path):
    require_root()
    base = make_base(tmp_path / "base", CONTENT)
    base.chmod(0o644)
    done = seal(base, level=Protection.READONLY)
    rewrite_seal(done.seal, {"mode_before": 0o777})
    os.chown(done.seal, NOBODY, NOBODY)
    seal(base, level=Protection.READONLY)
    assert done.seal.stat().st_uid == 0
    assert read_record(done.seal).mode_before == 0o644
    unseal(base)
    assert oct(base.stat().st_mode & 0o7777) == oct(0o644)


def test_a_stranger_s_seal_does_not_make_root_protect_a_file(tmp_path):
    require_root()
    base = make_base(tmp_path / "base", CONTENT)
    done = seal(base)
    rewrite_seal(done.seal, {"level": "IMMUTABLE"})
    os.chown(done.seal, NOBODY, NOBODY)
    os.utime(base)
    verify([base], full=True, refresh_seals=True)
    assert oct(base.stat().st_mode & 0o7777) == oct(0o644)
    assert read_record(done.seal).level is Protection.RECORDED


def test_another_image_s_seal_gives_no_mode(tmp_path):
    base, other = make_base(tmp_path / "base", CONTENT), make_base(tmp_path / "other", CONTENT)
    base.chmod(0o664)
    other.chmod(0o640)
    seal(base, level=Protection.READONLY)
    seal(other, level=Protection.READONLY)
    shutil.copy(tmp_path / "base.seal", tmp_path / "copy")
    os.replace(tmp_path / "copy", tmp_path / "other.seal")
    rewrite_seal(tmp_path / "other.seal", {"mode_before": 0o777})
    unseal(other)
    assert oct(other.stat().st_mode & 0o7777) == oct(0o640)


def test_a_seal_longer_than_memory_that_is_all_holes_is_refused_at_once(herd):
    path = herd.directory / "base.seal"
    data = bytearray(path.read_bytes())
    digests = 1 << 38
    data[32:40] = digests.to_bytes(8, "little")
    (length,) = struct.unpack_from("<I", data, 12)
    path.unlink()
    path.write_bytes(data)
    os.truncate(path, 40 + length + 16 * struct.unpack_from("<Q", data, 24)[0] + 32 * digests + 32)
    assert herd.run("verify", "--full", "base") == 4
