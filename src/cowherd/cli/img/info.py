"""`cowherd-img info`: the facts of an image file, or of a whole chain."""

from __future__ import annotations

from cowherd.cli.img.common import FILENAME, OUTPUT, one_filename, wants_json
from cowherd.cli.img.messages import opening
from cowherd.cli.img.options import Arguments, Example, Option, Syntax
from cowherd.cli.img.output import out
from cowherd.cli.img.sources import SOURCE_OPTIONS, SourceToRead, source_to_read
from cowherd.sizes import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.cli.img.jsonout import Json
    from cowherd.ops.info import FileInfo, ImageInfo

SYNTAX = Syntax(
    "info",
    "Display information about image",
    (Option("backing-chain", "b", help="tell about every image of the chain, the top one first"), *SOURCE_OPTIONS, OUTPUT),
    (FILENAME,),
    (
        Example("info disk.qcow2", "size, format, snapshots and backing file of one image"),
        Example("info --backing-chain --output=json overlay.qcow2", "the whole chain, for a program to read"),
    ),
    notes="Only headers and tables are read. Without -f the format of an image is guessed from its first bytes, which a guest "
    "can write if the image is raw: name the format of an image that you don't trust.",
)


def run(arguments: Arguments) -> int:
    """Prints the facts of the image, or of its chain."""
    chain = arguments.flag("backing-chain")
    image = source_to_read(arguments, one_filename(arguments))
    infos = _collect(image, chain, arguments.flag("force-share"))
    if wants_json(arguments):
        from cowherd.cli.img.jsonout import dumps

        documents = [info.to_json() for info in infos]
        out(dumps(documents if chain else documents[0]) + "\n")
    else:
        out("\n".join(map(_text, infos)))
    return 0


def _collect(image: SourceToRead, chain: bool, force_share: bool) -> list[ImageInfo]:
    from cowherd.ops.info import chain_info, image_info

    with opening(image.text, image.path):
        if chain:
            return chain_info(image.path, format=image.format, force_share=force_share)
        return [image_info(image.path, format=image.format, force_share=force_share)]


def _text(info: ImageInfo) -> str:
    size = f"{human_size(info.virtual_size)} ({info.virtual_size} bytes)"
    lines = [f"image: {info.filename}", f"file format: {info.format}", f"virtual size: {size}"]
    lines.append(f"disk size: {_allocated(info.file)}")
    if info.qcow2 is not None and info.qcow2.encryption:
        lines.append("encrypted: yes")
    if info.cluster_size is not None:
        lines.append(f"cluster_size: {info.cluster_size}")
    if info.dirty:
        lines.append("cleanly shut down: no")
    lines += _backing_lines(info)
    if info.snapshots:
        from cowherd.cli.img.snapshot_table import snapshot_table

        lines += ["Snapshot list:", *snapshot_table(info.snapshots)]
    if info.qcow2 is not None:
        lines += ["Format specific information:", *_dump(info.qcow2.to_json(), 1)]
    return "\n".join([*lines, *_file_lines(info.file)]) + "\n"


def _backing_lines(info: ImageInfo) -> list[str]:
    if info.backing_name is None:
        return []
    actual = "" if info.backing_filename == info.backing_name else f" (actual path: {info.backing_filename})"
    lines = [f"backing file: {info.backing_name}{actual}"]
    return lines + ([f"backing file format: {info.backing_format}"] if info.backing_format is not None else [])


def _file_lines(file: FileInfo) -> list[str]:
    return [
        "Child node '/file':",
        f"    filename: {file.filename}",
        f"    protocol type: {file.protocol}",
        f"    file length: {human_size(file.length)} ({file.length} bytes)",
        f"    disk size: {_allocated(file)}",
    ]


def _allocated(file: FileInfo) -> str:
    return "unavailable" if file.allocated is None else human_size(file.allocated)


def _dump(value: Json, depth: int) -> list[str]:
    """Returns the lines of a mapping or a list, as QEMU prints format specific information."""
    if isinstance(value, dict):
        items = [(key.replace("-", " "), item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [(f"[{index}]", item) for index, item in enumerate(value)]
    else:
        raise TypeError(f"only mappings and lists have lines of their own, not {value!r}")
    lines: list[str] = []
    for label, item in items:
        if isinstance(item, dict | list):
            lines += [f"{'    ' * depth}{label}:", *_dump(item, depth + 1)]
        else:
            text = str(item).lower() if isinstance(item, bool) else str(item)
            lines.append(f"{'    ' * depth}{label}: {text}")
    return lines
