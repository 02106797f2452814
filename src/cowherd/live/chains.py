"""Chains of images: as a process has them open, and as the headers on the disk name them, looked up in the process's root."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from cowherd.errors import CowherdError
from cowherd.formats.qcow2.header import read_header
from cowherd.formats.qcow2.layout import MAGIC
from cowherd.image.backing import resolve
from cowherd.image.chain import MAX_CHAIN
from cowherd.live.block_facts import Device, Facts, Node
from cowherd.live.kernel_holders import key_of
from cowherd.live.open_images import OpenImage
from cowherd.live.view import Layer, View
from cowherd.storage.hostfile import HostFile

_FILES = frozenset(("file", "host_device"))
"""QEMU's drivers that open a local file; others use a network, or pass on what is below them."""


@dataclass(frozen=True)
class Disk:
    """A chain, as the process has it open, and as the headers on the disk name it; the image that the process writes to is first.

    `problem` says why the headers can't be followed to the end, "" if they can. `devices` are the guest's drives that have it.
    """

    opened: tuple[Layer, ...]
    on_disk: tuple[Layer, ...]
    problem: str = ""
    devices: tuple[Device, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether the headers name other images than the process has open, as far as both are known.

        If only another file has taken the name of an open image, the names are still those that the process uses.
        """
        same_files = [layer.key for layer in self.opened] == [layer.key for layer in self.on_disk]
        same_names = [layer.name for layer in self.opened] == [layer.name for layer in self.on_disk]
        return not (self.problem or same_files or same_names)


def disks_from_descriptors(images: Sequence[OpenImage], view: View) -> list[Disk]:
    """Returns the chains of the images that a process has open. Descriptors show which files these are, but not their order.

    A chain follows the headers as long as the process has the files that they name open. Images that are open for reading only,
    and that no header names, come behind the chain that ends too soon.
    """
    by_key = {image.key: image for image in images}
    names = {image.key: view.inside(image.path) for image in images}
    chains = {image.key: _followed(names[image.key], image.descriptor, view) for image in images}
    below = {layer.key for layers, _ in chains.values() for layer in layers[1:]}
    heads = [image for image in images if image.key not in below]
    short = {head.key for head in heads if any(layer.key not in by_key for layer in chains[head.key][0])}
    loose = [head for head in heads if short and not head.writing and head.key not in short and head.is_qcow2]
    found = []
    for head in (head for head in heads if head not in loose):
        on_disk, problem = chains[head.key]
        opened = [
            head,
            *(by_key[layer.key] for layer in on_disk[1:] if layer.key in by_key),
            *(loose if head.key in short else ()),
        ]
        found.append(Disk(tuple(Layer(names[image.key], image.key) for image in opened), on_disk, problem))
    return found


def disks_from_facts(facts: Facts, images: Sequence[OpenImage], view: View) -> list[Disk]:
    """Returns the chains in what a machine says of its disks, with the files that QEMU has open under their names.

    If a name leads to another file by now, it means the file that QEMU opened then, which the descriptors still show.
    """
    chains = {node.images[0]: node.images for node in facts.nodes if node.images and _is_format(node)}
    below = {name for names in chains.values() for name in names[1:]}
    found = []
    for names in (names for top, names in chains.items() if top not in below):
        opened = _as_opened(names, images, view)
        top = next((one for one in images if one.key == opened[0].key), None)
        on_disk, problem = _followed(opened[0].name, top.descriptor if top else view.real(opened[0].name), view)
        devices = tuple(device for device in facts.devices if device.image == names[0])
        found.append(Disk(opened, (Layer(on_disk[0].name, opened[0].key), *on_disk[1:]), problem, devices))
    return found


def _is_format(node: Node) -> bool:
    """Returns whether a node is a disk of its own, and not the plain file under it: both have the same image."""
    return node.driver not in _FILES


def _as_opened(names: Sequence[str], images: Sequence[OpenImage], view: View) -> tuple[Layer, ...]:
    """Returns the files that a process has open under names of its own.

    If a name leads to another file by now, it means one that was deleted under it, or the only open image that is left over.
    """
    keys, layers = {image.key for image in images}, [view.layer(name) for name in names]
    for number, layer in enumerate(layers):
        gone = [image for image in images if image.gone and view.inside(image.path) == layer.name]
        if layer.key not in keys and len(gone) == 1:
            layers[number] = Layer(layer.name, gone[0].key)
    left = keys - {layer.key for layer in layers}
    lost = [number for number, layer in enumerate(layers) if layer.key not in keys]
    if len(left) == 1 and len(lost) == 1:
        layers[lost[0]] = Layer(layers[lost[0]].name, left.pop())
    return tuple(layers)


def _followed(name: str, file: str, view: View) -> tuple[tuple[Layer, ...], str]:
    """Follows headers from the image called `name`, opened as `file`; returns the chain, and why it ends too soon ("" if not)."""
    try:
        layers = [Layer(name, key_of(os.stat(file)))]
    except OSError as error:
        return (Layer(name, None),), error.strerror or str(error)
    except ValueError as error:  # no file can have such a name
        return (Layer(name, None),), str(error)
    seen = {layers[0].key}
    try:
        while len(layers) < MAX_CHAIN:
            below = _named_below(layers[-1].name, file)
            if below is None:
                return tuple(layers), ""
            layers.append(view.layer(below))
            file = view.real(layers[-1].name)
            if layers[-1].key is None or layers[-1].key in seen:
                problem = "it is not there" if layers[-1].key is None else "the chain comes back to itself"
                return tuple(layers), f"{below}: {problem}"
            seen.add(layers[-1].key)
    except CowherdError as error:
        return tuple(layers), str(error)
    return tuple(layers), f"more than {MAX_CHAIN} images"


def _named_below(name: str, file: str) -> str | None:
    """Returns the name of an image's backing file, None if it has none or is no qcow2 image. Raises `CowherdError`."""
    with HostFile.open(file, lock=None) as opened:
        if opened.size() < len(MAGIC) or opened.pread(0, len(MAGIC)) != MAGIC:
            return None
        header = read_header(opened)
    if header.backing is None:
        return None
    return resolve(name, header.backing).name
