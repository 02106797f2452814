"""Errors as programs catch them."""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle
from pathlib import Path

import pytest

import cowherd
from cowherd.cli.guard.output import plain
from cowherd.storage.hostfile import naming_file

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def test_a_missing_image_is_an_oserror_too(tmp_path):
    with pytest.raises(OSError, match="Could not open") as caught:
        cowherd.open(tmp_path / "missing.qcow2")
    error = caught.value
    assert isinstance(error, cowherd.HostFileError)
    assert (error.errno, error.filename) == (errno.ENOENT, os.fspath(tmp_path / "missing.qcow2"))
    assert error.strerror == error.reason == os.strerror(errno.ENOENT)


def test_its_facts_are_those_of_the_document_that_the_programs_print(tmp_path):
    error = cowherd.HostFileError(tmp_path / "a", "open", NO_SPACE)
    facts = {"path": os.fspath(tmp_path / "a"), "action": "open", "errno": errno.ENOSPC, "reason": "No space left on device"}
    assert json.dumps({name: plain(value) for name, value in error.facts().items()}) == json.dumps(facts)


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copied", "pickled"])
@pytest.mark.parametrize(
    "error",
    [
        cowherd.HostFileError("a", "open", NO_SPACE),
        cowherd.FlushFailed("a", NO_SPACE),
        cowherd.RemoteFileError(cowherd.Url("https://example.org/a"), "read", "it hung up"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_whole_out_of_another_process(error, again):
    other = again(error)
    assert type(other) is type(error)
    assert (str(other), other.errno, other.filename) == (str(error), error.errno, error.filename)
    assert {**other.facts(), "path": str(other.path)} == {**error.facts(), "path": str(error.path)}


def test_the_name_of_a_file_in_the_kernels_error_is_put_to_it_once():
    inner = cowherd.HostFileError(Path("inner"), "read", NO_SPACE)
    with pytest.raises(cowherd.HostFileError) as caught, naming_file("outer", "write"):
        raise inner
    assert caught.value is inner
