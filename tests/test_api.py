"""The public API: its names, and the gate in front of everything that changes a base."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cowherd
from cowherd import api, errors

OTHER_MODULES = ("numpy", "cowherd.api")


PUBLIC = sorted(cowherd._HOME_OF)


def test_the_api_offers_what_the_package_does_but_for_the_errors():
    offered = {
        name for name, value in vars(api).items() if not name.startswith("_") and name != "annotations" and callable(value)
    }
    assert offered == {*cowherd._HOMES["cowherd.api"], *cowherd._HOMES["cowherd.changes"]}


def test_every_error_is_public():
    classes = {name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == "cowherd.errors"}
    assert {name for name in classes if not name.startswith("_")} == set(cowherd._HOMES["cowherd.errors"])


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(cowherd, name).__doc__


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cowherd.nothing


def test_dir_shows_the_public_names():
    assert set(PUBLIC) <= set(dir(cowherd))


def test_importing_the_package_imports_nothing_else():
    code = f"import sys, cowherd; sys.exit(any(name in sys.modules for name in {OTHER_MODULES}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def base(tmp_path):
    """Returns a base of 1 MiB with two overlays, `a` and `b`, beside it."""
    base = tmp_path / "base.qcow2"
    cowherd.create(base, 1 << 20)
    with cowherd.open(base, writable=True) as disk:
        disk.write(0, b"base")
    for name in ("a.qcow2", "b.qcow2"):
        cowherd.create(tmp_path / name, backing="base.qcow2", backing_format="qcow2")
    return base


CHANGES = {
    "open": lambda base, **how: cowherd.open(base, writable=True, **how).close(),
    "create": lambda base, **how: cowherd.create(base, 1 << 20, **how),
    "convert onto": lambda base, **how: cowherd.convert(base.with_name("other.raw"), base, target_format="qcow2", **how),
    "commit into": lambda base, **how: cowherd.commit(base.with_name("a.qcow2"), **how),
    "resize": lambda base, **how: cowherd.resize(base, 2 << 20, **how),
    "rebase without keeping content": lambda base, **how: cowherd.rebase(base, None, unsafe=True, **how),
    "delete": cowherd.delete,
}


@pytest.fixture
def other(base):
    base.with_name("other.raw").write_bytes(bytes(1 << 20))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_to_a_base_is_refused_and_names_the_dependents(base, other, change):
    before = base.read_bytes()
    with pytest.raises(cowherd.BaseInUse) as refused:
        CHANGES[change](base)
    assert refused.value.exit_code == 3
    assert {path.name for path in refused.value.dependents} >= {"b.qcow2"}
    assert base.read_bytes() == before


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_to_a_sealed_base_is_refused(base, other, change):
    cowherd.seal(base)
    before = base.read_bytes()
    with pytest.raises(cowherd.BaseSealed) as refused:
        CHANGES[change](base)
    assert refused.value.exit_code == 3
    assert base.read_bytes() == before


@pytest.mark.parametrize("change", CHANGES)
def test_a_refusal_can_be_overridden_only_explicitly(base, other, change):
    CHANGES[change](base, break_dependents=True)


def test_a_commit_with_no_other_overlay_goes_on(base):
    cowherd.delete(base.with_name("b.qcow2"))
    with cowherd.open(base.with_name("a.qcow2"), writable=True) as disk:
        disk.write(0, b"news")
    cowherd.commit(base.with_name("a.qcow2"))
    with cowherd.open(base) as disk:
        assert disk.read(0, 4) == b"news"


def test_a_commit_gives_up_the_binding_to_what_the_base_held(base, tmp_path):
    only = tmp_path / "alone"
    only.mkdir()
    cowherd.create(only / "base.qcow2", 1 << 20)
    cowherd.clone(only / "base.qcow2", only / "top.qcow2")
    cowherd.unseal(only / "base.qcow2", force=True)
    cowherd.commit(only / "top.qcow2")
    assert [row.status for row in cowherd.verify([only / "top.qcow2"])] == ["unsealed", "unsealed"]


def test_a_safe_rebase_binds_to_the_new_base(base, tmp_path):
    cowherd.create(tmp_path / "second.qcow2", 1 << 20)
    cowherd.seal(tmp_path / "second.qcow2")
    cowherd.rebase(tmp_path / "a.qcow2", "second.qcow2", backing_format="qcow2")
    with cowherd.open(tmp_path / "a.qcow2") as disk:
        assert disk.read(0, 4) == b"base"
    rows = cowherd.verify([tmp_path / "a.qcow2"])
    assert [row.status for row in rows] == ["ok", "ok"]


def test_an_image_in_use_names_the_process_that_has_it(base):
    with cowherd.open(base.with_name("a.qcow2"), writable=True), pytest.raises(cowherd.ImageInUse) as refused:
        cowherd.open(base.with_name("a.qcow2"), writable=True)
    assert "this program itself" in str(refused.value)
