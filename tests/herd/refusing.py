"""A host that refuses to open one file or list one directory, as it does to somebody who may not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest


def refuse(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Makes opening and listing `path` fail, whoever runs the test."""

    def refusing(real):
        def call(name, *arguments, **options):
            if not isinstance(name, int) and os.fspath(name) == os.fspath(path):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(name))
            return real(name, *arguments, **options)

        return call

    for name in ("open", "scandir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
