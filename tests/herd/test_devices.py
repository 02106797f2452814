"""A device's node is the host's: nothing moves, removes, replaces or protects it, whatever command and name lead there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cowherd import changes
from cowherd.herd.doctor.doctor import doctor
from cowherd.herd.doctor.finding import Kind
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.merge.merge import merge
from cowherd.herd.overlays.move import move
from cowherd.herd.overlays.promote import promote
from cowherd.herd.records import sealplace
from cowherd.herd.seals.quick_check import record_of
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.trash.trash import purge, trash
from cowherd.storage.filetype import DeviceNode
from cowherd.storage.protection import Protection
from tests.herd.qemu_herd import content, make_overlay, qemu_img, write
from tests.storage.hosts import loop_device

pytestmark = pytest.mark.qemu

MIB = 1 << 20


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Seals of devices are kept in a state of these tests' own."""
    monkeypatch.setenv("COWHERD_STATE", str(tmp_path_factory.mktemp("state")))
    sealplace.forget_listing()
    yield
    sealplace.forget_listing()


@pytest.fixture
def node(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A node of a block device that is no other's: what breaks it breaks nothing on the host. It holds a qcow2 image."""
    backing = tmp_path_factory.mktemp("disk") / "backing"  # far away: seen as an image, it would be a second one
    backing.write_bytes(bytes(16 * MIB))
    with loop_device(backing) as device:
        (tmp_path / "dev").mkdir()
        path = tmp_path / "dev" / "node"
        os.mknod(path, stat.S_IFBLK | 0o660, os.stat(device).st_rdev)
        try:
            path.open("rb").close()
        except OSError:
            pytest.skip("nodes can't be opened here")
        qemu_img("create", "-q", "-f", "qcow2", path, 4 * MIB)
        write(path, "write -P 7 0 2M")
        yield path


@pytest.fixture(params=["node", "link"])
def name(request: pytest.FixtureRequest, node: Path, tmp_path: Path) -> Path:
    """A name of the device: the node itself, or a link to it, as an LV's is."""
    if request.param == "node":
        return node
    link = tmp_path / "volume"
    link.symlink_to(node)
    return link


COMMANDS: dict[str, Callable[[Path, Path], object]] = {
    "delete": lambda name, _: trash([name]),
    "delete, forced": lambda name, _: trash([name], force=True),
    "purge": lambda name, _: purge([name]),
    "delete of the API": lambda name, _: changes.delete(name),
    "delete of the API, forced": lambda name, _: changes.delete(name, break_dependents=True),
    "move": lambda name, elsewhere: move(name, elsewhere / "disk.qcow2"),
    "move into a directory": move,
    "rename": lambda name, _: move(name, name.with_name("other")),
    "promote --chained": lambda name, elsewhere: promote(name, elsewhere / "base.qcow2", chained=True),
}


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_no_command_takes_a_device_its_name(name: Path, node: Path, tmp_path: Path, command: str):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    before = os.lstat(node)
    with pytest.raises(DeviceNode, match="leads to a device"):
        COMMANDS[command](name, elsewhere)
    after = os.lstat(node)
    assert (after.st_ino, after.st_mode, after.st_nlink) == (before.st_ino, before.st_mode, before.st_nlink)
    assert os.path.lexists(name)
    assert not list(elsewhere.iterdir())


def test_a_merge_does_not_remove_an_overlay_on_a_device(node: Path, tmp_path: Path):
    base = tmp_path / "base.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", base, 4 * MIB)
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", node)
    write(node, "write -P 3 0 1M")
    shown = content(node)
    with pytest.raises(DeviceNode, match="--keep empty"):
        merge(node)
    assert content(base) != shown
    merge(node, keep="empty")
    assert content(base) == shown == content(node)


def test_a_merge_makes_no_new_base_beside_a_device(node: Path, tmp_path: Path):
    make_overlay(tmp_path / "one.qcow2", node)
    make_overlay(tmp_path / "two.qcow2", node)
    write(tmp_path / "one.qcow2", "write -P 3 1M 64k")
    shown = content(tmp_path / "two.qcow2")
    with pytest.raises(DeviceNode, match="preserve"):
        merge(tmp_path / "one.qcow2", strategy="fork", herd=[tmp_path])
    merge(tmp_path / "one.qcow2", herd=[tmp_path])
    assert content(tmp_path / "two.qcow2") == shown
    assert [path.name for path in (tmp_path / "dev").iterdir()] == ["node"]


@pytest.mark.parametrize("level", [Protection.READONLY, Protection.IMMUTABLE])
def test_a_seal_records_a_device_and_leaves_its_mode_alone(node: Path, level: Protection):
    mode = os.lstat(node).st_mode
    sealed = seal(node, level=level, shadow=True)
    assert sealed.record.level is Protection.RECORDED
    assert os.lstat(node).st_mode == mode
    unseal(node)
    assert os.lstat(node).st_mode == mode


def test_doctor_does_not_advise_to_protect_a_device(node: Path, tmp_path: Path):
    make_overlay(tmp_path / "one.qcow2", node)
    seal(node)
    assert Kind.WRITABLE_BASE not in {finding.kind for finding in doctor([tmp_path]).findings}


def test_a_base_on_a_device_is_promoted_by_copying(node: Path, tmp_path: Path):
    promoted = promote(node, tmp_path / "golden.qcow2")
    assert content(tmp_path / "golden.qcow2") == content(node)
    assert promoted.overlay is None
    lineage = survey_around(tmp_path / "golden.qcow2")
    assert record_of(lineage.find(tmp_path / "golden.qcow2"))
