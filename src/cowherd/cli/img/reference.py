"""Makes docs/cowherd-img.md from the declarations: `python -m cowherd.cli.img.reference > docs/cowherd-img.md`."""

from __future__ import annotations

from importlib import import_module

from cowherd.cli.img.help import command_help
from cowherd.cli.img.main import COMMANDS

_INTRODUCTION = """\
# cowherd-img

A drop-in for qemu-img: the same arguments, the same text and JSON on standard output, the same exit codes as qemu-img 10.
Called through a symbolic link named `qemu-img`, its messages begin with that name, and `--version` begins with
`qemu-img version 10`, for scripts that look for it. Where cowherd says more, it says it on standard error.

This page is made from the commands' own `--help`; a test keeps it so.

## What is different, on purpose

- **The gate.** What would change the content that dependents of an image read is refused with exit code 3: writing over,
  resizing or committing into a base, and changing a sealed image at all. The message names the dependents. `--break-dependents`
  makes the change all the same. Internal snapshots read the base as the image does: a commit or a safe rebase that would change
  what one of them shows is refused likewise, with its name.
- An image in use: the message is QEMU's, and says after it which process has the image open.
- Arguments are checked before a file that is there is touched; qemu-img empties it first.
- `convert -n --target-is-zero -B` ends with exit code 1 after its complaint; qemu-img says the same, copies nothing,
  and ends with 0.
- Progress (`-p`) looks the same; the percentages between 0 and 100 are not qemu-img's, for the work is cut differently.
- Backing files named `file:NAME` or `json:{...}` with a relative name are looked for beside the overlay, as plain names are, and
  not in the current directory.
- On a terminal, control characters in file names and in names stored in images are shown escaped. Pipes and files get them as
  they are.
- `-t`, `-T`, `-m`, `-W`, `-C` and `-r` are accepted and checked, and change nothing: results are always made durable, and the
  best means to copy is always used. `nocow` and `extent_size_hint` are accepted with a warning.

## Images on a web server

What only reads an image takes an address instead of its name, with ranges of bytes, as QEMU's curl driver does: `info`, `check`,
`map`, `measure`, `compare`, `dd` (`if=`), `snapshot -l` and the sources of `convert`.

    cowherd-img info https://images.example.org/debian.qcow2
    cowherd-img convert -p -O qcow2 https://images.example.org/debian.qcow2 debian.qcow2
    cowherd-img compare debian.qcow2 https://images.example.org/debian.qcow2

- Only an address on the command line (beginning with `http://` or `https://`) leads to a server, never a name that an image
  stores. An image that is read over HTTP leads to no other file: of an overlay `info` tells what it says, and the rest
  refuses it.
- Nothing is written to a server, and nothing is kept beside an address: the gate, seals and locks are about files of this
  host.
- A server must give out ranges. Every answer is held against what was asked for, and against the size, `ETag` and
  `Last-Modified` that came first: a file that changes meanwhile is an error, as far as the server tells (a change of equal
  size within a second may not show where there is no `ETag`). A server that is silent for 15 seconds, or takes more than 120
  for one answer of at most 4 MiB, is given up.
- Up to five redirections are followed, to `http` and `https`, and never from `https` to `http`. A name and a password in the
  address are sent to that server alone. Messages show neither them nor a query, which may be a signature.
- Certificates are checked against those that the host trusts, or the file in `SSL_CERT_FILE`. Proxies are not used.
- What is read small is fetched in pieces of 256 KiB and kept for a while; what is read large is fetched as it is, and
  clusters that lie close together at once.

## What is refused by name

Formats other than raw and qcow2, protocols other than files and (to read) HTTP, encryption and `--object`, external data
files (`info` shows both, but not what a LUKS header says), reading or changing internal snapshots (they are listed, and
kept), copying persistent bitmaps, `check -r`, `convert --salvage`, and the commands amend, bench and bitmap. qemu-img has
them.

## Exit codes

0 done, 1 failed or wrong usage, 3 refused because dependents would be harmed. `check`: 0 good, 1 not checked, 2 corrupt, 3 leaks,
63 no check for this format. `compare`: 0 identical, 1 different, 2 not opened, 4 not read. 130 interrupted, 143 terminated.
Where standard output takes nothing because a disk is full, what would end with 0 ends with 1 (`compare`: with 2) after its work,
and standard error says so; qemu-img says nothing and ends with 0 (see docs/guard.md).

## Commands
"""


def reference() -> str:
    """Returns the page."""
    parts = [_INTRODUCTION]
    for name in COMMANDS:
        syntax = import_module(f"cowherd.cli.img.{name}").SYNTAX
        parts.append(f"\n### {name}\n\n```text\n{command_help(syntax, 'cowherd-img')}```\n")
    return "".join(parts)


if __name__ == "__main__":
    print(reference(), end="")
