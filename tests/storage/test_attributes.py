"""Owner, rights, labels and times of one file given to another: all of them, in no order that lets anybody in on the way."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import shutil
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowherd.storage import attributes as module
from cowherd.storage import losses
from cowherd.storage.atomic import replacement, write_atomically
from cowherd.storage.attributes import ACCESS_LIST, Attributes, give_to, mode_before
from tests.storage.hosts import as_nobody, reflink_file_system, require_root

USER, NAMED_USER, GROUP, MASK, OTHER = 1, 2, 4, 16, 32
NOBODY_ID = 0xFFFFFFFF
DEFAULT_LIST = "system.posix_acl_default"


def access_list(*entries: tuple[int, int, int]) -> bytes:
    """An access list as the kernel takes it: (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, permissions, who) for tag, permissions, who in entries)


LIST = access_list((USER, 6, NOBODY_ID), (NAMED_USER, 6, 107), (GROUP, 0, NOBODY_ID), (MASK, 6, NOBODY_ID), (OTHER, 0, NOBODY_ID))
"""The group may do nothing, user 107 may write: the mode shows the mask, rw, as the group's."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of user 1234 with an access list, attributes and an old time; skips where there are none."""
    require_root()
    path = tmp_path / "source"
    path.write_bytes(b"content")
    os.chown(path, 1234, 1235)
    path.chmod(0o660)
    try:
        os.setxattr(path, ACCESS_LIST, LIST)
        os.setxattr(path, "user.note", b"web01")
        os.setxattr(path, "trusted.note", b"of root's")
    except OSError as error:
        pytest.skip(f"no access lists or extended attributes here: {error}")
    os.utime(path, ns=(10**18, 10**18 + 5))
    return path


@pytest.fixture(params=["same file system", "another one"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The name of a file to make, in a directory with a default access list and setgid."""
    directory = tmp_path / "there"
    if request.param == "another one":
        if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is no other file system")
        directory = Path(f"/dev/shm/cowherd-attributes-{os.getpid()}")
    directory.mkdir()
    os.chown(directory, 0, 4321)
    directory.chmod(0o2775)
    inherited = access_list(
        (USER, 7, NOBODY_ID), (NAMED_USER, 7, 4000), (GROUP, 7, NOBODY_ID), (MASK, 7, NOBODY_ID), (OTHER, 5, NOBODY_ID)
    )
    os.setxattr(directory, DEFAULT_LIST, inherited)
    yield directory / "target"
    shutil.rmtree(directory)


def made(path: Path) -> Path:
    """An empty file that only its maker may use."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return path


def test_everything_follows(source: Path, target: Path):
    lost = give_to(made(target), Attributes.of(source), times=True)
    unsupported = {one.what for one in lost}
    assert unsupported <= {"the attribute user.note"}  # tmpfs knows them since Linux 6.6
    info = target.stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (1234, 1235, 0o660)
    assert os.getxattr(target, ACCESS_LIST) == LIST
    assert os.getxattr(target, "trusted.note") == b"of root's"
    assert unsupported or os.getxattr(target, "user.note") == b"web01"
    assert (info.st_atime_ns, info.st_mtime_ns) == (10**18, 10**18 + 5)


def test_what_the_directory_hands_down_does_not_widen_rights(source: Path, target: Path):
    os.removexattr(source, ACCESS_LIST)
    source.chmod(0o640)
    give_to(made(target), Attributes.of(source))
    assert ACCESS_LIST not in os.listxattr(target)
    info = target.stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (1234, 1235, 0o640)


def rights(fd: int) -> tuple[int, int, int, bytes | None]:
    """Who may use an open file."""
    info = os.fstat(fd)
    try:
        access = os.getxattr(fd, ACCESS_LIST)
    except OSError:
        access = None
    return info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode), access


def test_nobody_has_more_rights_on_the_way(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch):
    steps: list[tuple[int, int, int, bytes | None]] = []
    for name in ("fchown", "fchmod", "setxattr", "removexattr"):
        real = getattr(os, name)

        def step(fd: int, *arguments: object, real=real) -> None:
            real(fd, *arguments)
            steps.append(rights(fd))

        monkeypatch.setattr(module.os, name, step)
    give_to(made(target), Attributes.of(source))
    for _owner, _group, mode, access in steps:
        assert not mode & 0o077 or access == LIST, (oct(mode), access)
    assert steps[-1] == (1234, 1235, 0o660, LIST)


def test_without_access_lists_the_mask_does_not_become_the_groups_rights(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
):
    known = Attributes.of(source)
    real = os.setxattr

    def refused(fd: int, name: str, value: bytes) -> None:
        if name == ACCESS_LIST:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        real(fd, name, value)

    monkeypatch.setattr(module.os, "setxattr", refused)
    lost = give_to(made(target), known)
    assert "the access list" in {one.what for one in lost}
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize("with_list", [False, True])
def test_a_group_that_can_not_be_given_leaves_nothing_to_the_one_that_is(tmp_path: Path, with_list: bool):
    require_root()
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"x")
    theirs.chmod(0o666)
    if with_list:
        os.setxattr(
            theirs,
            ACCESS_LIST,
            access_list(
                (USER, 6, NOBODY_ID), (NAMED_USER, 4, 107), (GROUP, 6, NOBODY_ID), (MASK, 6, NOBODY_ID), (OTHER, 0, NOBODY_ID)
            ),
        )
    os.chown(theirs, 1234, 1235)
    known = Attributes.of(theirs)
    with as_nobody(tmp_path):
        ours = made(Path("ours"))
        lost = give_to(ours, known)
        assert {one.what for one in lost} == {"the owner 1234", "the group 1235"}
        if with_list:
            entries = struct.iter_unpack("<HHI", os.getxattr(ours, ACCESS_LIST)[4:])
            assert {tag: permissions for tag, permissions, _ in entries}[GROUP] == 0
        else:
            assert stat.S_IMODE(ours.stat().st_mode) == 0o606


def test_a_symbolic_link_is_not_followed(source: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(made(tmp_path / "another"))
    with pytest.raises(OSError, match="link"):
        raise give_to_link(tmp_path / "link", Attributes.of(source))
    assert (tmp_path / "another").stat().st_uid == 0


def give_to_link(path: Path, known: Attributes) -> Exception:
    """The error that it ends with, as an OSError that names the path."""
    try:
        give_to(path, known)
    except Exception as error:  # noqa: BLE001
        return OSError(str(error))
    return AssertionError("it was followed")


def test_no_copy_on_write_follows(tmp_path: Path):
    with reflink_file_system(tmp_path) as place:
        source = made(place / "source")
        flags = array.array("i", [0x00800000])
        with source.open("rb") as file:
            try:
                fcntl.ioctl(file, module._SETFLAGS, flags)
            except OSError:
                pytest.skip("no such flag here")
        with replacement(place / "target", like=Attributes.of(source)) as file:
            file.pwrite(0, b"content")
        with (place / "target").open("rb") as copy:
            fcntl.ioctl(copy, module._GETFLAGS, flags)
        assert flags[0] & 0x00800000


def test_a_file_that_is_replaced_hands_down_what_it_is(source: Path):
    write_atomically(source, b"new")
    info = source.stat()
    assert (info.st_uid, info.st_gid, os.getxattr(source, ACCESS_LIST)) == (1234, 1235, LIST)
    assert source.read_bytes() == b"new"
    assert info.st_mtime_ns != 10**18 + 5


def test_what_is_lost_is_told_to_who_gathers_it(source: Path, tmp_path: Path):
    known = Attributes.of(source)._replace(extended=(("nosuch.namespace", b"x"),))
    with losses.gathering() as lost, replacement(tmp_path / "new", like=known) as file:
        file.pwrite(0, b"x")
    assert [(one.path, one.what) for one in lost] == [(str(tmp_path / "new"), "the attribute nosuch.namespace")]


def test_a_record_holds_who_may_use_the_file_and_nothing_else(source: Path):
    kept = Attributes.of(source).recorded
    assert (kept.owner, kept.group, kept.mode, kept.extended) == (1234, 1235, 0, ((ACCESS_LIST, LIST),))
    assert Attributes.from_dict(kept.to_dict()) == kept


@pytest.mark.parametrize(
    "facts",
    [
        {"owner": -1, "group": 0, "extended": {}},
        {"owner": 2**32 - 1, "group": 0, "extended": {}},
        {"owner": True, "group": 0, "extended": {}},
        {"owner": 0, "extended": {}},
        {"owner": 0, "group": 0, "extended": []},
        {"owner": 0, "group": 0, "extended": {"security.capability": "00"}},
        {"owner": 0, "group": 0, "extended": {"trusted.overlay.opaque": "79"}},
        {"owner": 0, "group": 0, "extended": {ACCESS_LIST: "no digits"}},
        {"owner": 0, "group": 0, "extended": {ACCESS_LIST: 7}},
        {"owner": 0, "group": 0, "extended": {ACCESS_LIST: "00" * 5000}},
    ],
)
def test_a_record_that_asks_for_more_is_refused(facts: dict[str, object]):
    with pytest.raises(ValueError, match=r"attribute|user or group|hexadecimal"):
        Attributes.from_dict(facts)


@pytest.mark.parametrize(
    ("now", "recorded", "before"),
    [(0o444, 0o644, 0o644), (0o440, 0o660, 0o660), (0o400, 0o777, 0o600), (0o444, 0o6777, 0o666), (0o600, 0o000, 0o600)],
)
def test_a_recorded_mode_gives_write_bits_back_and_nothing_else(now: int, recorded: int, before: int):
    assert mode_before(now, recorded) == before
