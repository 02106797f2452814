"""What commands load: those that only look answer about as fast as bare Python starts, so nothing heavy may come along."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cowherd
from cowherd.image.open import open_disk

RUN = """
import sys
before = set(sys.modules)
program, *words = sys.argv[1:]
if program == "cowherd":
    from cowherd.cli.guard.main import main
else:
    from cowherd.cli.img.main import main
sys.argv = [program, *words]
try:
    code = main()
except SystemExit as stop:
    code = stop.code
loaded = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items() if name not in before}
import os
print({"code": code, "loaded": loaded, "threads": len(os.listdir("/proc/self/task"))}, file=sys.stderr)
"""

HEAVY_PARTS_OF_PYTHON = {
    "asyncio",
    "concurrent.futures",
    "email",
    "http",
    "importlib.metadata",
    "logging",
    "multiprocessing",
    "shutil",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "unittest",
    "urllib.request",
    "uuid",
}
HEAVY_FOR_THE_GUARD = HEAVY_PARTS_OF_PYTHON | {"argparse", "dataclasses", "inspect", "json", "locale", "signal", "typing"}
HEAVY_FOR_LOOKS = HEAVY_FOR_THE_GUARD | {"cowherd.herd.seals.seal", "importlib", "pathlib", "re", "threading"}
HEAVY_FOR_COWHERD_IMG = HEAVY_FOR_THE_GUARD | {
    "enum",
    "importlib",
    "pathlib",
    "re",
    "threading",
    "urllib.parse",
    "warnings",
}

HEAVY_FOR_INFO = HEAVY_FOR_COWHERD_IMG | {"collections", "contextlib", "functools", "operator", "types"}

PROGRAMS = ("cowherd.cli.entry", "cowherd.cli.process", "cowherd.cli.programs")
"""What the installed programs load besides what `RUN` does."""


def run(program: str, *arguments, code: int = 0) -> tuple[str, dict]:
    """Runs a program in a Python of its own. Returns what it printed, and its `loaded` modules with their files and `threads`.

    Fails unless the program ends with `code`.
    """
    command = [sys.executable, "-c", RUN, program, *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    report = ast.literal_eval(done.stderr.splitlines()[-1])
    assert (report["code"] or 0) == code, done.stdout
    return done.stdout, report


def third_party(loaded: dict[str, str]) -> set[str]:
    return {name for name, file in loaded.items() if "-packages/" in file and not name.startswith("cowherd")}


@pytest.fixture
def overlay(tmp_path):
    """A qcow2 overlay over a qcow2 base."""
    base, overlay = tmp_path / "base.qcow2", tmp_path / "overlay.qcow2"
    run("cowherd-img", "create", "-q", "-f", "qcow2", base, "1M")
    run("cowherd-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay)
    return overlay


@pytest.mark.parametrize("options", [[], ["--output=json"], ["--backing-chain"]], ids=["text", "json", "chain"])
def test_info_loads_nothing_that_it_does_not_use(overlay, options):
    printed, report = run("cowherd-img", "info", *options, overlay)
    assert "overlay.qcow2" in printed
    assert third_party(report["loaded"]) == set()
    assert HEAVY_FOR_INFO & report["loaded"].keys() == set()


@pytest.mark.parametrize("command", ["tree", "status", "verify"])
def test_commands_that_look_at_a_whole_herd_do_without_numpy(overlay, command):
    printed, report = run("cowherd", command, *(["--herd"] if command == "verify" else []), overlay.parent)
    assert "base.qcow2" in printed
    assert third_party(report["loaded"]) == set()
    assert HEAVY_FOR_LOOKS & report["loaded"].keys() == set()


def test_what_is_known_of_an_image_is_shown_with_as_little(overlay):
    run("cowherd", "seal", overlay.with_name("base.qcow2"))
    for image in (overlay.with_name("base.qcow2"), overlay):
        printed, report = run("cowherd", "show", image)
        assert "qcow2: ok" in printed
        assert third_party(report["loaded"]) == set()
        assert (HEAVY_FOR_LOOKS - {"re"}) & report["loaded"].keys() == set()  # which a remedy is quoted with


def test_a_tree_on_which_machines_run_loads_no_more(overlay, tmp_path):
    machine = tmp_path / "qemu-like"
    machine.write_bytes(Path(shutil.which("sleep")).read_bytes())
    machine.chmod(0o755)
    with overlay.open("rb") as disk, subprocess.Popen([machine, "60"], stdin=disk) as process:
        printed, report = run("cowherd", "tree", overlay.parent)
        process.kill()
    assert f"running: qemu-like (pid {process.pid})" in printed
    assert HEAVY_FOR_LOOKS & report["loaded"].keys() == set()


def test_images_of_few_tables_are_compared_without_numpy(overlay, tmp_path):
    run("cowherd-img", "create", "-q", "-f", "qcow2", "-b", overlay.with_name("base.qcow2"), "-F", "qcow2", tmp_path / "other")
    printed, report = run("cowherd-img", "compare", overlay, tmp_path / "other")
    assert printed == "Images are identical.\n"
    assert third_party(report["loaded"]) == set()
    assert HEAVY_FOR_COWHERD_IMG & report["loaded"].keys() == set()


def test_a_commit_is_refused_without_numpy(overlay, tmp_path):
    run("cowherd-img", "create", "-q", "-f", "qcow2", "-b", overlay.with_name("base.qcow2"), "-F", "qcow2", tmp_path / "other")
    _, report = run("cowherd-img", "commit", overlay, code=3)
    assert third_party(report["loaded"]) == set()
    assert HEAVY_FOR_THE_GUARD & report["loaded"].keys() == set()


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_images_of_few_tables_are_converted_without_numpy(overlay, tmp_path, format):
    with open_disk(overlay, writable=True) as disk:
        disk.write(70_000, os.urandom(1000))
    for options in ((), ("-c",)) if format == "qcow2" else ((),):
        run("cowherd-img", "convert", "-O", format, *options, overlay, tmp_path / "copy")
        _, report = run("cowherd-img", "convert", "-O", format, *options, tmp_path / "copy", tmp_path / "again")
        assert {name.partition(".")[0] for name in third_party(report["loaded"])} <= {"isal"}


@pytest.mark.parametrize("options", [(), ("-o", "cluster_size=512,refcount_bits=1")], ids=["plain", "narrow"])
def test_an_empty_image_is_made_without_numpy(tmp_path, options):
    _, report = run("cowherd-img", "create", "-f", "qcow2", *options, tmp_path / "new", "1G")
    assert third_party(report["loaded"]) == set()


def test_a_full_verify_of_images_of_few_tables_does_without_numpy(overlay):
    run("cowherd", "seal", overlay)
    printed, report = run("cowherd", "verify", "--full", overlay)
    assert "overlay.qcow2" in printed
    assert third_party(report["loaded"]) <= {"blake3", "blake3.blake3"}
    assert HEAVY_FOR_THE_GUARD & report["loaded"].keys() == set()


def test_a_rebase_that_changes_no_content_is_done_without_numpy(overlay, tmp_path):
    base = overlay.with_name("base.qcow2")
    other = tmp_path / "other.qcow2"
    other.write_bytes(base.read_bytes())
    for sealed in (base, other):
        run("cowherd", "seal", sealed)
    run("cowherd", "bind", overlay)
    for options in ((), ("-u",)):
        _, report = run("cowherd-img", "rebase", *options, "-b", other, "-F", "qcow2", overlay)
        assert third_party(report["loaded"]) == set()
        assert (HEAVY_FOR_THE_GUARD | {"pathlib", "threading"}) & report["loaded"].keys() == set()


@pytest.mark.parametrize(
    "command",
    [("check",), ("map",), ("map", "--output=json"), ("measure", "-O", "qcow2"), ("measure", "-O", "raw")],
    ids=" ".join,
)
@pytest.mark.parametrize("options", [(), ("-c",)], ids=["plain", "compressed"])
def test_the_tables_of_ordinary_images_are_looked_at_without_numpy(overlay, tmp_path, command, options):
    with open_disk(overlay, writable=True) as disk:
        disk.write(70_000, os.urandom(100_000))
    run("cowherd-img", "convert", "-O", "qcow2", *options, overlay, tmp_path / "copy")
    for image in (overlay, tmp_path / "copy")[: 1 if options and command == ("map",) else 2]:  # no text for compressed clusters
        _, report = run("cowherd-img", *command, image)
        assert third_party(report["loaded"]) == set()
        assert HEAVY_FOR_COWHERD_IMG & report["loaded"].keys() == set()


def test_a_rebase_loads_no_more_than_it_uses(overlay, tmp_path):
    run("cowherd-img", "create", "-q", "-f", "qcow2", tmp_path / "other.qcow2", "1M")
    _, report = run("cowherd-img", "rebase", "-b", tmp_path / "other.qcow2", "-F", "qcow2", overlay)
    assert "numpy" in report["loaded"]
    assert {"numpy.ma", "concurrent.futures", "logging"} & report["loaded"].keys() == set()


def test_a_commit_that_reads_nothing_itself_starts_no_threads(overlay):
    with cowherd.open(overlay, format="qcow2", writable=True) as disk:
        disk.write(0, b"long" * (1 << 17))
    _, report = run("cowherd-img", "commit", overlay)
    assert "numpy" in report["loaded"]
    assert {"numpy.ma", "concurrent.futures", "logging"} & report["loaded"].keys() == set()


def test_numpy_is_loaded_without_a_thread_for_each_processor(overlay):
    _, report = run("cowherd-img", "commit", overlay)
    assert "numpy" in report["loaded"]
    assert report["threads"] == 1


def test_the_check_before_a_machine_starts_loads_nothing_that_it_does_not_use(overlay):
    """libvirt waits for it at every start."""
    printed, report = run("cowherd", "run", "--dry-run", "--", "qemu-system-x86_64", overlay)
    assert printed.startswith("unsealed")
    assert third_party(report["loaded"]) == set()
    assert HEAVY_PARTS_OF_PYTHON & report["loaded"].keys() == set()


def test_daily_work_on_a_herd_does_without_numpy_and_dataclasses(overlay):
    folder = overlay.parent
    run("cowherd", "seal", folder / "base.qcow2")
    for command in (
        ("bind", overlay),
        ("clone", folder / "base.qcow2", folder / "clone.qcow2"),
        ("doctor", folder),
        ("move", overlay, folder / "moved.qcow2"),
        ("delete", folder / "moved.qcow2"),
        ("gc", folder),
        ("trash", "list", "--herd", folder),
    ):
        _, report = run("cowherd", *command)
        assert third_party(report["loaded"]) == set(), command
        heavy = HEAVY_FOR_THE_GUARD - ({"json"} if command[0] == "delete" else set())  # what it writes is laid out for people
        assert heavy & report["loaded"].keys() == set(), command


def test_a_clone_of_a_sealed_base_loads_nothing_that_makes_a_seal(overlay):
    base = overlay.with_name("base.qcow2")
    run("cowherd", "seal", base)
    _, report = run("cowherd", "clone", base, overlay.with_name("clone.qcow2"))
    unused = {"cowherd.herd.seals.seal", "cowherd.ops.inspect", "json", "pathlib", "re", "urllib.parse"}
    assert unused & report["loaded"].keys() == set()


def test_an_overlay_is_made_without_numpy(overlay):
    _, report = run("cowherd-img", "create", "-f", "qcow2", "-b", overlay, "-F", "qcow2", overlay.with_name("new.qcow2"))
    assert third_party(report["loaded"]) == set()
    assert HEAVY_FOR_THE_GUARD & report["loaded"].keys() == set()


@pytest.fixture
def marked(tmp_path, qemu_img):
    """A qcow2 image with a snapshot and a bitmap."""
    image = tmp_path / "marked.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", image, "1M")
    qemu_img("snapshot", "-c", "before", image)
    qemu_img("bitmap", "--add", "-f", "qcow2", image, "changes")
    return image


def test_only_modules_that_fast_commands_load_use_the_idiom_of_a_fast_start(overlay, marked, tmp_path):
    """Elsewhere `typing` is loaded anyway, and ordinary Python is easier to read."""
    loaded = set(PROGRAMS)
    for program, *words in fast_commands(overlay, marked, tmp_path):
        _, report = run(program, *words)
        assert {"typing", "dataclasses", "numpy"} & report["loaded"].keys() == set(), words
        loaded |= report["loaded"].keys()
    loaded |= run("cowherd-img", "commit", tmp_path / "new.qcow2", code=3)[1]["loaded"].keys()
    assert sorted(modules_with_the_idiom() - loaded) == []


def fast_commands(overlay, marked, folder):
    """Every kind of command that is done before `typing` could be loaded, in an order in which each finds what it needs."""
    base, other, copy = overlay.with_name("base.qcow2"), folder / "other.qcow2", folder / "copy"
    with open_disk(overlay, writable=True) as disk:
        disk.write(70_000, os.urandom(1000))
    yield "cowherd-img", "info", overlay
    yield "cowherd-img", "info", marked
    yield "cowherd-img", "info", "--output=json", "--backing-chain", overlay
    yield "cowherd-img", "create", "-f", "qcow2", "-b", base, "-F", "qcow2", folder / "new.qcow2"
    yield "cowherd-img", "create", "-f", "qcow2", folder / "empty", "1G"
    for options in (("-O", "raw"), ("-O", "qcow2", "-c"), ("-O", "qcow2")):
        yield "cowherd-img", "convert", *options, overlay, copy
        yield "cowherd-img", "compare", overlay, copy
    for command in ("check", "map", "measure"):
        yield "cowherd-img", command, overlay
    other.write_bytes(base.read_bytes())
    for sealed in (base, other):
        run("cowherd", "seal", sealed)
    yield "cowherd", "bind", overlay
    yield "cowherd-img", "rebase", "-u", "-b", other, "-F", "qcow2", overlay
    yield "cowherd-img", "rebase", "-b", base, "-F", "qcow2", overlay
    yield "cowherd", "verify", "--full", overlay
    yield "cowherd", "tree", folder
    yield "cowherd", "status", folder
    yield "cowherd", "show", overlay
    yield "cowherd", "log", overlay
    yield "cowherd", "herd", "list"
    yield "cowherd", "doctor", folder
    yield "cowherd", "clone", base, folder / "clone.qcow2"
    yield "cowherd", "move", folder / "clone.qcow2", folder / "moved.qcow2"
    yield "cowherd", "delete", folder / "moved.qcow2"
    yield "cowherd", "gc", folder
    yield "cowherd", "trash", "list", "--herd", folder


def modules_with_the_idiom() -> set[str]:
    """The modules that import for annotations under `TYPE_CHECKING = False`, or take named tuples from `cowherd.tuples`."""
    package = Path(cowherd.__file__).parent
    using = re.compile(r"^TYPE_CHECKING = False$|^from cowherd\.tuples import NamedTuple$", re.MULTILINE)
    files = (file for file in package.rglob("*.py") if using.search(file.read_text("utf-8")))
    return {".".join(("cowherd", *file.relative_to(package).with_suffix("").parts)).removesuffix(".__init__") for file in files}


SERVICE = {"alembic", "httptools", "msgspec", "sqlalchemy", "starlette", "uvicorn"}
"""The packages of the service, which only `cowherd serve` needs."""

COMMANDS_WITHOUT_SERVICE = """
import importlib, pkgutil, sys
from cowherd.cli import guard, img
for package in (guard, img):
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in ("serve", "units"):
            importlib.import_module(f"{package.__name__}.{module.name}")
print([name for name in sys.modules if name.startswith("cowherd.service") or name in sys.argv[1:]])
"""


def test_only_serve_loads_the_service_and_its_packages():
    done = subprocess.run([sys.executable, "-c", COMMANDS_WITHOUT_SERVICE, *SERVICE], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_settings_are_checked_without_the_packages_of_the_service(tmp_path):
    printed, report = run("cowherd", "serve", "--check-config", "--data", tmp_path)
    assert printed == "the settings make sense\n"
    assert third_party(report["loaded"]) == set()
