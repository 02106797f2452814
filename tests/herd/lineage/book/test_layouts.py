"""Every command that changes something, on hosts as people have them: no overlay is lost, and each refusal names it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cowherd
from cowherd.errors import BaseInUse, BaseSealed, CowherdError
from cowherd.herd.gate.gate import dependents_of
from cowherd.herd.lineage.book.memory import mount_table
from cowherd.herd.trash.trash import purge
from tests.herd.lineage.book import layouts
from tests.herd.lineage.book.layouts import LAYOUTS, MOUNTED, Host
from tests.herd.qemu_herd import content, noise

pytestmark = pytest.mark.qemu

Change = Callable[[Host, Path], object]

REFUSED: dict[str, Change] = {
    "open": lambda host, _: cowherd.open(host.asked, writable=True),
    "create": lambda host, _: cowherd.create(host.asked, 1 << 20),
    "convert": lambda host, spare: cowherd.convert(spare, host.asked, source_format="raw", target_format="qcow2"),
    "convert in place": lambda host, spare: cowherd.convert(
        spare, host.asked, source_format="raw", target_format="qcow2", create_target=False
    ),
    "resize": lambda host, _: cowherd.resize(host.asked, 32 << 20),
    "rebase": lambda host, spare: cowherd.rebase(host.asked, os.fspath(spare), backing_format="raw", unsafe=True),
    "delete": lambda host, _: cowherd.delete(host.asked),
    "to the trash": lambda host, _: cowherd.trash([host.asked]),
    "purge": lambda host, _: purge([host.asked]),
    "commit": lambda host, _: cowherd.commit(host.first),
}
"""Changes of the base that its overlays would see."""


@pytest.fixture(params=[*LAYOUTS, *MOUNTED], ids=lambda layout: layout.__name__)
def host(request, tmp_path) -> Iterator[Host]:
    if request.param in LAYOUTS:
        yield request.param(tmp_path / "host")
        return
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    with request.param(tmp_path / "host") as made:
        mount_table.cache_clear()  # this process has looked at it before
        yield made
    mount_table.cache_clear()


@pytest.fixture
def spare(tmp_path) -> Path:
    path = tmp_path / "spare.raw"
    path.write_bytes(noise(65536))
    return path


def same_file(one: os.PathLike[str], other: os.PathLike[str]) -> bool:
    return os.path.samefile(one, other)


def test_every_change_of_a_base_is_refused_and_names_the_overlays(host, spare):
    before = {path: content(path) for path in (host.first, host.second)}
    for name, change in REFUSED.items():
        with pytest.raises(BaseInUse) as caught:
            change(host, spare)
        expected = [host.second] if name == "commit" else [host.first, host.second]
        for overlay in expected:
            assert any(same_file(overlay, named) for named in caught.value.dependents), (name, overlay)
    assert {path: content(path) for path in before} == before


def test_a_sealed_base_is_not_unsealed_under_them(host):
    cowherd.seal(host.asked)
    with pytest.raises(CowherdError) as caught:
        cowherd.unseal(host.asked)
    assert len(caught.value.dependents) == 2
    for change in ("resize", "purge"):
        with pytest.raises((BaseSealed, BaseInUse)):
            REFUSED[change](host, host.base)


def test_what_goes_through_keeps_what_the_other_machine_reads(host):
    before = content(host.second)
    with contextlib.suppress(CowherdError):  # refused is fine, too
        cowherd.merge(host.first)
    assert content(host.second) == before


def test_a_change_of_the_base_is_kept_from_all_of_them(host, qemu_img, qemu_io):
    cowherd.seal(host.asked, bind=True)
    before = {path: content(path) for path in (host.first, host.second)}
    good = host.base.with_name("good.raw")
    qemu_img("convert", "-O", "raw", host.base, good)
    qemu_io("-f", "qcow2", "-c", "write -P 3 128k 64k", host.base)
    cowherd.repair(host.asked, preserve=True, donors=[good])
    assert {path: content(path) for path in before} == before


def test_moved_and_renamed_bases_are_found_by_their_overlays(host):
    before = {path: content(path) for path in (host.first, host.second)}
    cowherd.move(host.asked, host.asked.with_name("renamed"))
    assert {path: content(path) for path in before} == before


def test_who_stands_on_it_is_the_same_by_every_command(host):
    def found(paths) -> int:
        return sum(any(same_file(path, overlay) for path in paths) for overlay in (host.first, host.second))

    assert found(dependents_of(host.asked)) == 2
    cowherd.seal(host.asked)
    assert found([hit.path for hit in cowherd.impact(host.asked).overlays]) == 2


def test_an_empty_chain_is_filled_from_its_root_up(tmp_path, qemu_img, spare):
    """oVirt makes a whole chain first, and then converts each volume into it."""
    root, leaf = tmp_path / "root.qcow2", tmp_path / "leaf.qcow2"
    qemu_img("create", "-f", "qcow2", root, "1M")
    qemu_img("create", "-f", "qcow2", "-b", root, "-F", "qcow2", leaf)
    cowherd.convert(spare, root, source_format="raw", target_format="qcow2", create_target=False, target_is_zero=True)
    assert content(leaf)[:65536] == spare.read_bytes()
    with pytest.raises(BaseInUse):
        cowherd.convert(spare, root, source_format="raw", target_format="qcow2", create_target=False)


def test_refusals_name_a_base_as_the_caller_did(tmp_path, monkeypatch):
    host = layouts.nova(tmp_path / "host")
    monkeypatch.chdir("/")
    for named in (host.base, Path(os.path.relpath(host.base, "/"))):
        with pytest.raises(BaseInUse, match=f"refusing to resize {named}: it is the base"):
            cowherd.resize(named, 1 << 30)
