"""All that is known of one image: its chain and what stands on it, its seal, who has it, and what is wrong with both."""

from __future__ import annotations

import contextlib
import os

from cowherd.errors import CowherdError
from cowherd.herd.doctor.doctor import diagnosis_of
from cowherd.herd.lineage.survey import survey_named
from cowherd.herd.log.history import readings
from cowherd.herd.machines.domains import named_by_domains
from cowherd.herd.machines.running import NOTHING_RUNS, look_at
from cowherd.herd.report.tree import node_of, tree_of
from cowherd.live.holders import PROC
from cowherd.storage.sharing import shared_bytes
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.herd.doctor.finding import Finding
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.herd.machines.domains import Naming
    from cowherd.herd.machines.running import Machine, Runs
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.herd.report.tree import Node
    from cowherd.live.holders import Holder
    from cowherd.paths import PathName


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


def show(image: PathName, *, herd: Sequence[PathName] = ()) -> Shown:
    """Returns what is known of an image. Reads headers and the records of seals, and changes no file of the herd.

    Relatives are looked for around it and under `herd`. Raises `HostFileError` if it is not there, or is no image.
    """
    lineage = survey_named([image], herd)
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
        verified=readings().last(found.filename),
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
        for finding in diagnosis_of(lineage, runs=_users_of(runs, {one.key for one in chain})).findings
        if os.fspath(finding.path) in own or (os.fspath(finding.path) in below and not finding.kind.is_note)
    )


def _users_of(runs: Runs, wanted: set[Key]) -> Runs:
    """Returns what runs on some images alone: the doctor asks the monitor of every process in it, which takes time."""
    holders = {key: those for key, those in runs.glance.holders.items() if runs.key_of(key) in wanted}
    return runs._replace(glance=runs.glance._replace(holders=holders))
