"""What the API takes: names of files alone or several, sizes and levels as people write them."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import cowherd
from cowherd.paths import path_names
from cowherd.sizes import size_in_bytes

GONE = "vanished"
FUNCTIONS = {name: function for name in dir(cowherd) if inspect.isfunction(function := getattr(cowherd, name))}
CALLS: dict[str, dict[str, object]] = {
    # What each function needs to come as far as to look at the names that it was given.
    "bind": {"images": ["web.qcow2"]},
    "check_domain": {"xml": "<domain type='kvm'><name>web</name></domain>"},
    "clone": {"base": "base.qcow2", "overlay": "new.qcow2"},
    "commit": {"overlay": "web.qcow2"},
    "convert": {"sources": "web.qcow2", "target": "base.qcow2"},
    "create": {"path": "base.qcow2", "size": "1M"},
    "delete": {"path": "base.qcow2"},
    "doctor": {},
    "empty_trash": {},
    "flatten": {"overlay": "web.qcow2"},
    "gc": {},
    "log": {},
    "impact": {"base": "base.qcow2"},
    "impact_on_files": {"base": "base.qcow2", "against": "older.qcow2"},
    "merge": {"overlay": "web.qcow2"},
    "move": {"source": "base.qcow2", "target": "other.qcow2"},
    "open": {"path": "base.qcow2", "writable": True},
    "overview": {},
    "promote": {"disk": "web.qcow2", "base": "golden.qcow2"},
    "rebase": {"overlay": "web.qcow2", "backing": None},
    "recover": {},
    "relink": {"images": ["web.qcow2"]},
    "repair": {"base": "base.qcow2"},
    "report": {},
    "show": {"image": "base.qcow2"},
    "status": {},
    "resize": {"path": "base.qcow2", "size": "2M"},
    "restore": {"name": "old.qcow2"},
    "retarget": {"overlays": ["web.qcow2"], "onto": "base.qcow2"},
    "seal": {"image": "base.qcow2"},
    "trash": {"images": ["web.qcow2"]},
    "trashed": {},
    "tree": {},
    "unseal": {"image": "base.qcow2"},
    "verify": {},
    "watch": {"on_event": lambda event: False},
}


def taking(alias: str) -> list[tuple[str, str]]:
    """Each parameter of a public function whose annotation holds this word, as (function, parameter)."""
    return [
        (name, parameter.name)
        for name, function in FUNCTIONS.items()
        for parameter in inspect.signature(function).parameters.values()
        if alias in str(parameter.annotation).replace("|", " ").split()
    ]


@pytest.fixture
def herd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cowherd.create("base.qcow2", "1M")
    cowherd.create("web.qcow2", backing="base.qcow2", backing_format="qcow2")
    with cowherd.open("base.qcow2", writable=True, break_dependents=True) as disk:
        disk.write(0, b"base")
    cowherd.seal("base.qcow2")
    for name in ("older.qcow2", "old.qcow2"):
        cowherd.create(name, "1M")
    cowherd.trash("old.qcow2")


def told(function: str, arguments: dict[str, object]) -> str:
    """What a call says: its error's text, or its result's problems."""
    try:
        result = FUNCTIONS[function](**arguments)
    except cowherd.CowherdError as error:
        return str(error)
    if isinstance(result, cowherd.Impact):
        return str(result.to_json())
    return " ".join(str(one.problem) for one in result)


def test_no_function_takes_several_names_and_not_one():
    strict = [(name, parameter) for name, parameter in taking("Sequence[PathName]") + taking("Iterable[PathName]")]
    assert strict == []
    assert {name for name, _ in taking("PathNames")} == set(CALLS)


FORMS = {"text": str, "Path": Path, "list": lambda name: [name], "generator": lambda name: (one for one in [name])}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(("function", "parameter"), taking("PathNames"))
def test_one_name_is_one_file(herd, function, parameter, form):
    """Each function looks for the file of that name, and finds that it is not there."""
    said = told(function, CALLS[function] | {parameter: form(GONE)})
    assert re.search(rf"(?<![\w-]){GONE}\b", said.replace(f"{Path.cwd()}/", "")), said


@pytest.mark.parametrize("names", [3, [3], [None]])
def test_a_number_is_no_name(names):
    """The host would take it for an open descriptor."""
    with pytest.raises(TypeError):
        path_names(names)


def test_names_in_bytes_are_names():
    assert path_names(b"a") == path_names([b"a"]) == ("a",)


SIZES: dict[str, dict[str, object]] = {
    "clone": {"base": "base.qcow2", "overlay": "new.qcow2"},
    "convert": {"sources": "web.qcow2", "target": "new.qcow2"},
    "create": {"path": "new.qcow2"},
    "inspect": {"source": "web.qcow2"},
    "measure": {"target_format": "qcow2"},
    "resize": {"path": "web.qcow2"},
    "watch": {"directories": ".", "on_event": lambda event: False, "fanotify": False},
}


def test_every_size_is_tried():
    assert {name for name, _ in taking("Size")} == set(SIZES)
    assert not [parameter for _, parameter in taking("int") if "size" in parameter]


@pytest.mark.parametrize(("name", "parameter"), taking("Size"))
def test_a_size_may_be_written_as_people_write_it(herd, name, parameter):
    FUNCTIONS[name](**SIZES[name] | {parameter: "2M"})


@pytest.mark.parametrize("size", ["2Q", "", "8E"])
@pytest.mark.parametrize(("name", "parameter"), taking("Size"))
def test_a_text_that_is_no_size_is_wrong_usage(herd, name, parameter, size):
    with pytest.raises(cowherd.InvalidRequest, match=r"is no size|is too large"):
        FUNCTIONS[name](**SIZES[name] | {parameter: size})


def test_a_size_in_bytes_is_that_of_qemu():
    assert size_in_bytes("1.5k") == size_in_bytes(1536) == 1536


def test_the_disk_has_the_size_that_was_written(herd):
    assert cowherd.clone("base.qcow2", "large.qcow2", size="3G").size == 3 << 30
    cowherd.resize("large.qcow2", "4G")
    assert cowherd.image_info("large.qcow2").virtual_size == 4 << 30


@pytest.mark.parametrize("level", ["readonly", cowherd.Protection.READONLY])
def test_a_level_is_taken_by_its_name(herd, level):
    assert cowherd.seal("base.qcow2", level=level).record.level is cowherd.Protection.READONLY
    cowherd.create("alone.qcow2", "1M")
    with cowherd.open("alone.qcow2", writable=True) as disk:
        disk.write(0, b"data")
    assert cowherd.promote("alone.qcow2", "golden.qcow2", level=level).sealed.record.level is cowherd.Protection.READONLY


@pytest.mark.parametrize(("name", "parameter"), taking("Level"))
def test_a_word_that_is_no_level_is_wrong_usage(herd, name, parameter):
    with pytest.raises(cowherd.InvalidRequest, match="recorded, readonly, immutable"):
        FUNCTIONS[name](**CALLS[name] | {parameter: "frozen"})


def test_one_feature_is_allowed_by_its_name(herd):
    assert not cowherd.inspect("web.qcow2").safe
    assert cowherd.inspect("web.qcow2", allow="backing-file").safe


def test_one_trusted_key_is_one_key(herd):
    assert [row.status for row in cowherd.verify("base.qcow2", trusted=bytes(32))] == ["untrusted"]
