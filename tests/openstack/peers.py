"""What `make openstack` installs: keystone, Glance, tempest and the clients, in a virtual environment of their own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Peers:
    """The virtual environment with the packages of requirements/openstack.txt."""

    root: Path

    @property
    def bin(self) -> Path:
        """The folder of the programs."""
        return self.root / "bin"

    def program(self, name: str) -> Path:
        """Returns the path of an installed program."""
        return self.bin / name

    def environment(self, home: Path, **more: str | Path) -> dict[str, str]:
        """Returns an environment in which only these programs and the system's are found, and no settings of the user."""
        kept = {key: os.environ[key] for key in ("LANG", "TZ") if key in os.environ}
        return {
            **kept,
            "HOME": str(home),
            "PATH": os.pathsep.join([str(self.bin), os.defpath]),
            "LC_ALL": "C.UTF-8",
            **{key: str(value) for key, value in more.items()},
        }
