"""What this package is installed as: the name that an installer knows it by, its version, and its optional parts.

The name `cowherd` belongs to another project on the Python package index: so the distribution has another name than the package.
"""

from __future__ import annotations

NAME = "qemu-cowherd"
"""The name in `pyproject.toml`; who packages cowherd anew may choose another."""

_THIS = "cowherd/distribution.py"


def name() -> str:
    """Returns the name in the metadata that this package was installed with, `NAME` if it runs from its sources."""
    found = _name_and_version()
    return found[0] if found else NAME


def version() -> str | None:
    """Returns the version in that metadata, None if there is none."""
    found = _name_and_version()
    return found[1] if found else None


def how_to_install(extra: str) -> str:
    """Returns the command that installs an optional part, as in `pip install 'qemu-cowherd[watch]'`."""
    return f"pip install '{name()}[{extra}]'"


def made_by() -> str:
    """Returns the program's name and version, as records and `--version` have it."""
    found = version()
    return f"cowherd {found}" if found else "cowherd, run from its sources"


def _name_and_version() -> tuple[str, str] | None:
    """Returns those of the distribution called `NAME`, or of one whose list of files has this module."""
    from importlib import metadata

    try:
        found = metadata.distribution(NAME)
    except metadata.PackageNotFoundError:
        for found in metadata.distributions():
            if any(str(file) == _THIS for file in found.files or ()):
                break
        else:
            return None
    return found.metadata["Name"], found.version
