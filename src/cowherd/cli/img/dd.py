"""`cowherd-img dd`: copies a part of an image into a new one, with operands like dd's."""

from __future__ import annotations

from typing import NamedTuple

from cowherd.cli.img.chains import look
from cowherd.cli.img.common import BREAK_DEPENDENTS, number_between
from cowherd.cli.img.create import local_path
from cowherd.cli.img.errors import CommandFailed
from cowherd.cli.img.format_options import creatable
from cowherd.cli.img.messages import opening, prefixed
from cowherd.cli.img.options import Arguments, Example, Option, Syntax
from cowherd.cli.img.output import err
from cowherd.cli.img.sources import SOURCE_OPTIONS, SourceToRead, source_to_read
from cowherd.formats import registry
from cowherd.sizes import INT64_MAX

SYNTAX = Syntax(
    "dd",
    "Copy input to output with optional format conversion",
    (
        *SOURCE_OPTIONS,
        Option("output-format", "O", "FMT", "format of the output, raw (the default) or qcow2"),
        BREAK_DEPENDENTS,
    ),
    (
        ("[bs=SIZE]", "bytes of a block (default 512)"),
        ("[count=N]", "end after this many blocks of the input, counted from its beginning"),
        ("[skip=N]", "leave out this many blocks at the beginning of the input"),
        ("if=INPUT", "the image to read (or its description, with --image-opts)"),
        ("of=OUTPUT", "the image to make"),
    ),
    (Example("dd -O qcow2 bs=1M count=100 if=disk.raw of=head.qcow2", "the first 100 MiB as an image of their own"),),
)

_INT_MAX = 2**31 - 1


class _Blocks(NamedTuple):
    """The operands' numbers: `skip` and `limit` are in blocks of `size` bytes; a `limit` of None means all."""

    input: str
    output: str
    size: int
    skip: int
    limit: int | None


def run(arguments: Arguments) -> int:
    """Copies."""
    blocks = _parse(arguments.operands)
    image = source_to_read(arguments, blocks.input)
    size = look(image)[0].virtual_size
    format = arguments.text("output-format") or registry.NEW_TARGET
    creatable(format, unknown="Unknown file format")
    end = size if blocks.limit is None else min(size, blocks.limit * blocks.size)
    start = blocks.skip * blocks.size
    if start > end:
        err(f"{arguments.program}: {blocks.input}: cannot skip to specified offset\n")
        start = end
    _copy(arguments, image, blocks.output, format, start, end)
    return 0


def _parse(operands: list[str]) -> _Blocks:
    numbers = {
        "bs": number_between("bs", 1, _INT_MAX),
        "count": number_between("count", 0, INT64_MAX),
        "skip": number_between("skip", 0, INT64_MAX),
    }
    names: dict[str, str] = {}
    found: dict[str, int] = {}
    for operand in operands:
        key, equals, value = operand.partition("=")
        if not equals or (key not in numbers and key not in ("if", "of")):
            raise CommandFailed(f"unrecognized operand {key}")
        if key in numbers:
            found[key] = numbers[key](value)
        else:
            names[key] = value
    if len(names) < 2:
        raise CommandFailed("Must specify both input and output files")
    return _Blocks(names["if"], names["of"], found.get("bs", 512), found.get("skip", 0), found.get("count"))


def _copy(arguments: Arguments, image: SourceToRead, output: str, format: str, start: int, end: int) -> None:
    from cowherd.changes import create, require_stable
    from cowherd.image.open import open_disk
    from cowherd.ops.dd import copy_part

    path = local_path(output)
    with opening(image.text, image.path):
        if isinstance(image.path, str) and not arguments.flag("force-share"):
            require_stable(image.path)
        disk = open_disk(image.path, format=image.format, force_share=arguments.flag("force-share"))
    with disk:
        with prefixed(f"{output}: error while creating output image: "):
            create(path, end - start, format=format, break_dependents=arguments.flag("break-dependents"))
        with opening(output, path), open_disk(path, format=format, writable=True) as target:
            copy_part(disk, target, start, end)
