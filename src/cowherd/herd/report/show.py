"""All that is known of one image: its chain and what stands on it, its seal, who has it, and what is wrong with both."""

from __future__ import annotations

import contextlib
import os

from cowherd.errors import CowherdError
from cowherd.herd.doctor.doctor import findings_of
from cowherd.herd.lineage.survey import survey_named
from cowherd.herd.log.history import last_reading
from cowherd.herd.machines.domains import named_by_domains
from cowherd.herd.machines.running import NOTHING_RUNS, look_at
from cowherd.herd.report.tree import node_of, tree_of
from cowherd.live.holders import PROC
from cowherd.paths import path_names
from cowherd.storage.sharing import shared_bytes
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cowherd.herd.doctor.finding import Finding
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.herd.machines.domains import Naming
    from cowherd.herd.machines.running import Machine, Runs
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.herd.report.tree import Node
    from cowherd.live.holders import Holder
    from cowherd.paths import PathName, PathNames


class Shown(NamedTuple):
    """One image. `chain` are the images below it, nearest first; `overlays` those that stand on it, bases before their overlays.

    `seal` is the path of its seal and `record` what that says, both None without one; `record` is None also where the seal can't
    be read. `domains` are libvirt's names for it. `machines` run on it, `users` are other processes that have it open.
    `findings` are the doctor's about it, and those about its chain that are no mere notes. `verified` is as in `bases.Base`,
    `shared` as `shared_bytes` has it, `hidden_machines` as in `Tree`.
    """

    node: Node
    chain: tuple[Node, ...]
    overlays: tuple[Node, ...]
    seal: str | None
    record: SealRecord | None
    domains: tuple[Naming, ...]
    machines: tuple[Machine, ...]
    users: tuple[Holder, ...]
    findings: tuple[Finding, ...]
    verified: str | None
    shared: int | None
    hidden_machines: int

    @property
    def healthy(self) -> bool:
        """Whether all findings are mere notes."""
        return all(finding.kind.is_note for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd show --json` prints them."""
        node, image = self.node, self.node.image
        return {
            "path": image.filename,
            "names": list(image.filenames),
            "format": image.format,
            "virtual_size": image.size,
            "disk_size": image.disk_size,
            "shared_size": self.shared,
            "data_file": image.data_file,
            "status": node.status.value,
            "detail": node.detail,
            "problem": image.problem,
            "base": node.base_name,
            "chain": [_relative(below) for below in self.chain],
            "overlays": [_relative(overlay) for overlay in self.overlays],
            "binding": _binding(self),
            "seal": _seal(self),
            "verified": self.verified,
            "domains": [_naming(naming) for naming in self.domains],
            "running": [machine.to_json() for machine in self.machines],
            "open_in": [_holder(holder) for holder in self.users],
            "hidden_machines": self.hidden_machines,
            "healthy": self.healthy,
            "findings": [finding.to_json() for finding in self.findings],
        }


def show(image: PathName, *, herd: PathNames = ()) -> Shown:
    """Returns what is known of an image. Reads headers and the records of seals, and changes no file of the herd.

    Relatives are looked for around it and under `herd`. Raises `HostFileError` if it is not there, or is no image.
    """
    lineage = survey_named([image], path_names(herd))
    found = lineage.find(image)
    runs = look_at(lineage, only_machines=False) if os.path.isdir(PROC) else NOTHING_RUNS
    nodes = {node.image.key: node for node in tree_of(lineage, runs).nodes}
    machines = runs.machines.get(found.key, ())
    above = {dependent.key for dependent in lineage.dependents(found)}
    return Shown(
        node=nodes.get(found.key) or node_of(lineage, found, runs),
        chain=tuple(nodes[below.key] for below in lineage.chain(found)[1:]),
        overlays=tuple(node for key, node in nodes.items() if key in above),
        seal=lineage.seal(found),
        record=_record(lineage, found),
        domains=tuple(naming for _, naming in named_by_domains(found.filenames[:1])),
        machines=machines,
        users=_users(runs, found, {machine.holder.pid for machine in machines}),
        findings=_findings(lineage, found, runs),
        verified=last_reading(found.filename),
        shared=shared_bytes(found.filename),
        hidden_machines=runs.hidden,
    )


def _record(lineage: Lineage, image: Image) -> SealRecord | None:
    with contextlib.suppress(CowherdError):  # the doctor reports a seal that can't be read
        return lineage.record_of(image)
    return None


def _users(runs: Runs, image: Image, machines: set[int]) -> tuple[Holder, ...]:
    holders = (holder for key, those in runs.glance.holders.items() if runs.key_of(key) == image.key for holder in those)
    return tuple(holder for holder in holders if holder.pid not in machines)


def _findings(lineage: Lineage, image: Image, runs: Runs) -> tuple[Finding, ...]:
    chain = lineage.chain(image)
    own = set(image.filenames)
    below = {name for one in chain[1:] for name in one.filenames}
    return tuple(
        finding
        for finding in findings_of(lineage, _users_of(runs, {one.key for one in chain}))
        if finding.filename in own or (finding.filename in below and not finding.kind.is_note)
    )


def _users_of(runs: Runs, wanted: set[Key]) -> Runs:
    """Returns what runs on some images alone: the doctor asks the monitor of every process in it, which takes time."""
    holders = {key: those for key, those in runs.glance.holders.items() if runs.key_of(key) in wanted}
    return runs._replace(glance=runs.glance._replace(holders=holders))


def _relative(node: Node) -> dict[str, Any]:
    return {
        "path": node.image.filename,
        "base": node.base_name,
        "seal": node.level,
        "status": node.status.value,
        "running": [machine.to_json() for machine in node.machines],
    }


def _binding(found: Shown) -> dict[str, Any] | None:
    binding = found.node.image.binding
    if binding is None:
        return None
    return {
        "content_digest": binding.content_digest.hex(),
        "seal_id": binding.seal_id.hex(),
        "generation": binding.generation,
    }


def _seal(found: Shown) -> dict[str, Any] | None:
    record = found.record
    if found.seal is None:
        return None
    if record is None:
        return {"path": found.seal, "level": found.node.level}
    return {
        "path": found.seal,
        "level": record.level.label,
        "content_digest": record.content_digest.hex(),
        "seal_id": record.seal_id.hex(),
        "generation": record.generation,
        "created": record.created,
        "made_by": record.made_by,
        "signed_by": record.signature.public_key.hex() if record.signature else None,
        "shadow": record.shadow,
    }


def _naming(naming: Naming) -> dict[str, Any]:
    return {"name": naming.domain.name, "role": naming.role, "active": naming.domain.active}


def _holder(holder: Holder) -> dict[str, Any]:
    return {"pid": holder.pid, "command": holder.command, "user": holder.user or None, "writing": holder.writing}
