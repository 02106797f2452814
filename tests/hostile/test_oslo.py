"""Beside OpenStack's own inspector (oslo.utils): what that refuses, the policy "glance" refuses; sound images neither does."""

from __future__ import annotations

from pathlib import Path

import pytest
from oslo_utils.imageutils import format_inspector as oslo

import cowherd
from tests.hostile.corpus import Case, corpus
from tests.images import MATRIX, Features, create_with_cowherd

CASES = [case for case in corpus() if case.category != "costly"]


def refused_by_oslo(path: Path, said: str) -> bool:
    """Whether Glance would refuse an image that is said to be `said`."""
    try:
        found = oslo.detect_file_format(str(path))
        if found is None or (said != found.NAME and not (said == "raw" and found.NAME in ("gpt", "iso"))):
            return True
        found.safety_check()
    except (oslo.ImageFormatError, oslo.SafetyCheckFailed):
        return True
    return False


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_oslo_refuses_the_glance_policy_refuses(case: Case, tmp_path: Path):
    path = case.write(tmp_path / "image")
    found = cowherd.inspect(path, format=case.format, policy="glance")
    assert not found.safe or not refused_by_oslo(path, case.format)


@pytest.mark.parametrize("features", MATRIX, ids=str)
def test_both_say_the_same_of_sound_images(features: Features, tmp_path: Path):
    image = create_with_cowherd(tmp_path / "image.qcow2", features, features.odd_size)
    assert cowherd.inspect(image, format="qcow2", policy="glance").safe is not refused_by_oslo(image, "qcow2")


def test_most_of_the_corpus_passes_oslo(tmp_path):
    """The figure that docs/inspect.md quotes; pytest -s shows it."""
    passed = sum(not refused_by_oslo(case.write(tmp_path / "image"), case.format) for case in CASES)
    print(f"oslo.utils lets {passed} of {len(CASES)} hostile images through")
    assert passed > len(CASES) // 2
