"""The options of -o."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.cli.img import format_options
from cowherd.cli.img.errors import CommandFailed


def test_doubled_commas_stand_for_one():
    assert format_options.parse(["backing_file=a,,b=c,,,compat=v2"], "qcow2") == {"backing_file": "a,b=c,", "compat": "v2"}


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_any_name_survives_being_written_and_read(name):
    written = "backing_file=" + name.replace(",", ",,")
    assert format_options.parse([written], "qcow2") == {"backing_file": name}
    assert f"backing_file={name.replace(',', ',,')}" in format_options.shown("qcow2", {"backing_file": name})


def test_lists_are_joined_and_the_last_counts():
    assert format_options.parse(["cluster_size=4k", "cluster_size=8k,lazy_refcounts"], "qcow2") == {
        "cluster_size": "8192",
        "lazy_refcounts": "on",
    }


def test_flags_are_booleans_and_no_switches_them_off():
    assert format_options.parse(["extended_l2,nolazy_refcounts"], "qcow2") == {"extended_l2": "on", "lazy_refcounts": "off"}


@pytest.mark.parametrize("text", ["help", "cluster_size=4k,help", "?", "compat=v2,?,x=1"])
def test_help_is_recognised_among_others(text):
    assert format_options.help_wanted([text])


def test_a_value_is_not_a_call_for_help():
    assert not format_options.help_wanted(["backing_file=help"])


def test_unknown_names_are_refused():
    with pytest.raises(CommandFailed, match="Invalid parameter 'cluster_size'"):
        format_options.parse(["cluster_size=4k"], "raw")
