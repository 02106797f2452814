"""`cowherd verify`: checks that bases are what their overlays expect."""

from __future__ import annotations

from cowherd.cli.guard.output import Report, progress_of_reading, table
from cowherd.cli.guard.screen import state
from cowherd.errors import InvalidRequest
from cowherd.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser

FOUND = 4


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Checks the seals and bindings of images and of everything in their chains; without IMAGE, of the whole herd.\n"
        "The quick form compares what the host says of the files with the seals and reads no data; --full reads and compares\n"
        "the content. Any status but 'ok', 'unsealed' and 'attributes' makes the exit code 4.\n\n"
        "attributes: by its times only owner, mode, labels or links of the file were changed; --strict calls it touched\n"
        "unvouched: the overlay is bound to what its base held, and the base has no seal that could say what it holds\n"
        "unknown: the base is on another machine, or may not be read from here\n"
        "touched: the file is not as the seal left it, and only --full can say whether its content is\n"
        "drifted: the content is not as sealed\n"
        "replaced: another file has taken the base's name\n"
        "binding-mismatch: the overlay was made on other content than its base is sealed with\n"
        "missing-base: a backing file is not there\n"
        "untrusted: no key given with --trusted vouches for a base",
        "cowherd verify web.qcow2\ncowherd verify --full --herd /var/lib/libvirt/images",
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="what to check (default: the herd)")
    parser.add_argument("--full", action="store_true", help="read the content of sealed images again and compare it")
    parser.add_argument(
        "--refresh", action="store_true", help="with --full: where only the file was touched, record that in the seal"
    )
    parser.add_argument("--strict", action="store_true", help="take a file of which only the attributes changed for touched")
    parser.add_argument(
        "--require-sealed", action="store_true", help="everything that others stand on must have a seal (else exit code 4)"
    )
    parser.add_argument(
        "--trusted",
        action="append",
        default=[],
        metavar="KEY",
        help="the file of an Ed25519 public key; every base must have a seal signed by one of them (may be repeated)",
    )
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.records.signing import public_key
    from cowherd.herd.seals.verify import verify

    if arguments.refresh and not arguments.full:
        raise InvalidRequest("--refresh needs --full: only the content can say that a touched image is as sealed")
    found = verify(
        arguments.images,
        full=arguments.full,
        refresh_seals=arguments.refresh,
        strict=arguments.strict,
        require_sealed=arguments.require_sealed,
        trusted=[public_key(path) for path in arguments.trusted],
        herd=arguments.herd,
        reading=progress_of_reading,
    )
    if arguments.full:
        from cowherd.herd.log import concerned

        concerned.note(row.filename for row in found if row.sealed and row.certain and row.status.holds)
    fine = all(row.status.is_fine for row in found)
    lines = table((state(row.status.value), shown(row.filename), row.detail) for row in found)
    document = {"images": [row.to_json() for row in found], "fine": fine}
    return Report(document, tuple(lines or ["no images"]), exit_code=0 if fine else FOUND)
