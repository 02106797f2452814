"""The output of `ps`: each process and each device of the kernel's with its images, as text and as a document."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from cowherd.text import counted, printable, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from cowherd.herd.report.tree import Node
    from cowherd.live.block_facts import Export, Job
    from cowherd.live.chains import Disk
    from cowherd.live.kernel_holders import Key
    from cowherd.live.kernel_users import KernelUser
    from cowherd.live.open_images import OpenImage
    from cowherd.live.running import Look, Running
    from cowherd.live.running_faults import Found
    from cowherd.live.view import Layer

    Nodes = Mapping[Key, Node]


def lines(look: Look, nodes: Nodes, found: Sequence[Found]) -> tuple[str, ...]:
    """Returns the text: the processes, the kernel's devices, the faults, and a last line that counts them."""
    said = [line for one in look.all for line in _process_lines(one, nodes)]
    said += [line for user in look.kernel for line in _kernel_lines(user)]
    said += [str(error) for error in look.lost]
    for fault in found:
        of = f" (pid {fault.pid})" if fault.pid else ""
        said.append(f"{fault.fault.value}: {shown(fault.image) + of + ': ' if fault.image else ''}{fault.detail}")
    devices = f" and {counted(len(look.kernel), 'use')} of the kernel" if look.kernel else ""
    who = counted(len(look.all), "process", "processes") + devices
    said.append(f"{who} {'has' if len(look.all) == 1 and not devices else 'have'} images open: {len(found) or 'nothing'} wrong")
    return tuple(said)


def _process_lines(one: Running, nodes: Nodes) -> Iterator[str]:
    yield _called(one)
    if one.monitor_error:
        yield f"    {one.monitor_error}"
    images, shown_ones = {image.key: image for image in one.images}, set()
    for disk in one.disks:
        for depth, layer in enumerate(disk.opened):
            shown_ones.add(layer.key)
            drives = "".join(f", as {printable(device.name)}" for device in disk.devices if depth == 0)
            image = images.get(layer.key) if layer.key else None
            here = f" (here {shown(image.path)})" if image and not image.gone and image.path != layer.name else ""
            yield f"    {'  ' * depth}{shown(layer.name)}{here}  {_how(image)}{drives}{_standing(layer.key, nodes)}"
        if disk.differs:
            yield f"      on the disk: {' <- '.join(shown(layer.name) for layer in disk.on_disk)}"
        for device in disk.devices:
            if device.problem:
                yield f"      requests of {printable(device.name)} have failed: {printable(device.problem)}"
    for image in one.images:
        if image.key not in shown_ones:
            yield f"    {shown(image.path)}  {_how(image)}{_standing(image.key, nodes)}"
    yield from (f"    {_export_line(export)}" for export in one.exports)
    yield from (f"    {_job_line(job)}" for job in one.jobs)


def _called(one: Running) -> str:
    """Returns the line about a process, such as `qemu-system-x86_64 (pid 4711, user root, since ...), machine web`."""
    process, machine = one.process, one.holder.machine
    own = [f"pid {one.pid}", *([f"user {process.user}"] if process.user else [])]
    own += [f"since {time.strftime('%Y-%m-%d %H:%M', time.localtime(one.holder.since))}"] if one.holder.since else []
    facts = [f"{process.command or 'a process'} ({', '.join(own)})"]
    facts += [f"domain {one.domain}"] if one.domain else [f"machine {machine}"] if machine else []
    facts += [f"unit {process.unit}"] if process.unit else []
    facts += [f"monitor {shown(path)}" for path in one.monitors]
    return ", ".join(facts)


def _how(image: OpenImage | None) -> str:
    if image is None:
        return "not open"
    facts = ["writing" if image.writing else "reading"]
    facts += ["locked"] if image.locking else []
    facts += ["mapped"] if image.mapped else []
    return ", ".join([*facts, "deleted"] if image.gone else facts)


def _standing(key: Key | None, nodes: Nodes) -> str:
    """Returns what follows a file's name and mode: its seal and its status, as `tree` has them; "" if they are not known."""
    node = nodes.get(key) if key else None
    return f"; {f'seal {node.level}, ' if node.level else ''}{node.status.value}" if node else ""


def _export_line(export: Export) -> str:
    of = f" of {printable(export.node)}" if export.node else ""
    return f"export {printable(export.id)} ({printable(export.type)}){of}{', ending' if export.ending else ''}"


def _job_line(job: Job) -> str:
    share = f", {100 * job.done // job.total} %" if job.total else ""
    return f"job {printable(job.id)}: {printable(job.type)}, {printable(job.status)}{share}"


def _kernel_lines(user: KernelUser) -> Iterator[str]:
    served = [f"served by pid {user.pid}"] if user.pid else []
    yield f"kernel: {', '.join(filter(None, [printable(user.name), *served, *user.uses]))}"
    if user.path:
        yield f"    {shown(user.path)}  {'writing' if user.writing else 'reading'}{', deleted' if user.gone else ''}"


def document(look: Look, nodes: Nodes, found: Sequence[Found]) -> dict[str, Any]:
    """Returns the same for --json, in full."""
    return {
        "processes": [_process(one, nodes) for one in look.all],
        "kernel": [_kernel_user(user) for user in look.kernel],
        "hidden": look.hidden,
        "lost_monitors": [{"socket": error.socket, "error": str(error)} for error in look.lost],
        "findings": [
            {"kind": fault.fault.value, "pid": fault.pid, "image": fault.image or None, "detail": fault.detail} for fault in found
        ],
    }


def _process(one: Running, nodes: Nodes) -> dict[str, Any]:
    return {
        **one.process.to_json(),
        "domain": one.domain or None,
        "machine": one.holder.machine or None,
        "since": one.holder.since or None,
        "is_machine": one.is_machine,
        "monitors": [os.fspath(path) for path in one.monitors],
        "asked": one.asked,
        "monitor_error": str(one.monitor_error) if one.monitor_error else None,
        "images": [_image(image, nodes) for image in one.images],
        "disks": [_disk(disk) for disk in one.disks],
        "exports": [dict(vars(export)) for export in one.exports],
        "jobs": [dict(vars(job)) for job in one.jobs],
    }


def _image(image: OpenImage, nodes: Nodes) -> dict[str, Any]:
    node = nodes.get(image.key)
    return {
        "path": image.path,
        "inode": image.key[2],
        "writing": image.writing,
        "locking": image.locking,
        "mapped": image.mapped,
        "gone": image.gone,
        "seal": node.level if node else None,
        "status": node.status.value if node else None,
        "detail": node.detail if node else None,
    }


def _disk(disk: Disk) -> dict[str, Any]:
    return {
        "drives": [{"name": device.name, "problem": device.problem or None} for device in disk.devices],
        "opened": [*map(_layer, disk.opened)],
        "on_disk": [*map(_layer, disk.on_disk)],
        "differs": disk.differs,
        "problem": disk.problem or None,
    }


def _layer(layer: Layer) -> dict[str, Any]:
    return {"name": layer.name, "inode": layer.key[2] if layer.key else None}


def _kernel_user(user: KernelUser) -> dict[str, Any]:
    return {
        "name": user.name or None,
        "uses": list(user.uses),
        "image": user.path or None,
        "inode": user.key[2] if user.key else None,
        "writing": user.writing,
        "gone": user.gone,
        "pid": user.pid,
    }
