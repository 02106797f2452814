"""A short run of the fuzzer by chance; `make fuzz MINUTES=10` is guided by coverage and goes on for longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import targets
from tests.fuzz.__main__ import ByChance, FromBytes, Fuzzer, minimised
from tests.fuzz.disks import BLOCK, head_of, packed, put_right, unpacked


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    folder = tmp_path_factory.mktemp("fuzz")
    return Fuzzer(folder, folder / "findings")


@pytest.fixture
def fuzzer(made: Fuzzer, tmp_path: Path) -> Fuzzer:
    made.findings, made.inputs, made.found = tmp_path / "findings", 0, set()
    return made


def test_nothing_but_errors_of_the_project_comes_out(fuzzer: Fuzzer):
    for number in range(300):
        fuzzer.one(ByChance(number))
    assert (fuzzer.inputs, fuzzer.found) == (300, set())


def test_another_process_goes_on_where_one_has_grown_too_large(made: Fuzzer, fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch):
    fuzzer.one(ByChance(1))
    told = fuzzer.told()
    fuzzer.one(ByChance(2))
    fuzzer.go_on(told)
    assert (fuzzer.inputs, fuzzer.found) == (1, set())
    assert not fuzzer.has_grown()
    monkeypatch.setattr("tests.fuzz.__main__.MOST_GROWTH", -1)
    assert fuzzer.has_grown()


def test_a_run_ends_after_as_many_inputs_as_were_asked_for():
    words = [sys.executable, "-m", "tests.fuzz", "--by-chance", "--inputs", "20", "--seeds", "raw"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "20 inputs, 0 findings: 20 raw\n"


def test_every_kind_of_file_is_fuzzed(fuzzer: Fuzzer):
    assert {seed.kind for seed in fuzzer.seeds} == set(targets.ACTIONS)


def test_what_a_fuzzer_chose_is_chosen_again():
    chosen = [FromBytes(b"\x05\x01\xff").number(most) for most in (9, 9)]
    assert chosen == [5, 5]


def test_a_finding_is_kept_and_can_be_repeated(fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(fuzzer, "_exercise", lambda kind, path, action: 1 // 0)
    fuzzer.attempt("raw", b"content")
    (kept,) = fuzzer.findings.iterdir()
    assert kept.read_bytes() == b"content"
    assert f"--again {kept}" in capsys.readouterr().out
    done = subprocess.run([sys.executable, "-m", "tests.fuzz", "--again", kept], capture_output=True, check=False)
    assert done.returncode == 0  # the file itself does no harm


def test_a_finding_differs_from_its_seed_only_where_it_must(fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch):
    def failing(kind: str, path: Path, action: int | None) -> None:
        if path.read_bytes()[40:42] == b"!!":
            raise ZeroDivisionError

    monkeypatch.setattr(fuzzer, "_exercise", failing)
    fuzzer.attempt("raw", bytes(40) + b"!!" + b"x" * 50, 0, bytes(200))
    (kept,) = fuzzer.findings.iterdir()
    assert kept.read_bytes().rstrip(b"x") == bytes(40) + b"!!" + bytes(158)


def test_what_fails_only_when_it_is_cut_short_stays_short():
    assert minimised(b"ab", b"abcd", lambda content: len(content) < 4) == b"ab"


def test_a_disk_is_packed_without_its_empty_blocks():
    disk = bytes(3 * BLOCK) + b"x" * 5000 + bytes(9 * BLOCK + 17)
    content = packed(disk)
    assert len(content) == head_of(2) + 2 * BLOCK
    fetch, size = unpacked(content)
    assert (size, fetch(0, size)) == (len(disk), disk)
    assert fetch(3 * BLOCK - 1, 3) == b"\0xx"


def test_checksums_are_made_as_the_programs_made_them(fuzzer: Fuzzer):
    for seed in fuzzer.seeds:
        if seed.mend:
            content = bytearray(seed.content)
            seed.mend(content)
            assert content == seed.content, seed.name
        for start, _, first, place in seed.sums:
            content = bytearray(seed.content)
            content[place] ^= 1
            put_right(seed, content)
            assert content == seed.content, (seed.name, start - seed.fixed, first)
    assert all(len(seed.sums) > 20 for seed in fuzzer.seeds if seed.name in ("XFS", "btrfs"))
