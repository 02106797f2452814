"""Signed seals: an Ed25519 signature says who vouches for the content that a seal records.

The signature covers, in this order: 26 bytes "cowherd seal signature 1" and zeros, the seal's id (16), its generation and the
image's size (8 each, little-endian), the content digest (32), and the format's name. The content digest covers the block digests.
The signature does not cover what the seal says of its file on the host (times, inode), since that changes with every copy: only
`verify --full` is proof.
"""

from __future__ import annotations

import struct

from cowherd.distribution import how_to_install
from cowherd.errors import CowherdError, HostFileError
from cowherd.herd.records.sealrecord import SealRecord, Signature
from cowherd.paths import as_path
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from cowherd.paths import PathName

_SIGNED = struct.Struct("<26s16sQQ32s")
_TAG = b"cowherd seal signature 1"
_LONGEST_KEY = 1 << 16


class SigningUnavailable(CowherdError):
    """Signatures need a package that is not installed."""

    def __str__(self) -> str:
        return f"signatures need the package cryptography: {how_to_install('sign')}"


class KeyUnusable(CowherdError):
    """A file holds no Ed25519 key of the kind that is needed. Attributes: `path`, `problem`."""

    exit_code = 2

    def __init__(self, path: PathName, problem: str):
        self.path, self.problem = as_path(path), problem

    def __str__(self) -> str:
        return f"{printable(self.path)} can't be used as a key: {self.problem}"


def signer(private_key: PathName) -> Callable[[SealRecord], SealRecord]:
    """Returns a function that signs records with the Ed25519 key in the file `private_key` (PEM or OpenSSH, no passphrase).

    Raises `SigningUnavailable`, `KeyUnusable`, `HostFileError`.
    """
    key = _private_key(private_key)

    def signed(record: SealRecord) -> SealRecord:
        return record._replace(signature=Signature(key.public_key().public_bytes_raw(), key.sign(_message(record))))

    return signed


def public_key(path: PathName) -> bytes:
    """Returns the 32 bytes of the Ed25519 public key in a file (PEM or OpenSSH). Raises as `signer`."""
    data = _read(path)
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise SigningUnavailable from error
    load = serialization.load_ssh_public_key if data.startswith(b"ssh-") else serialization.load_pem_public_key
    try:
        key = load(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(path, f"it holds no public key ({error})") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyUnusable(path, "it is no Ed25519 key")
    return key.public_bytes_raw()


def problem_of(record: SealRecord, trusted: tuple[bytes, ...]) -> str | None:
    """Returns why a seal has no valid signature by a key in `trusted`, None if it has one. Raises `SigningUnavailable`."""
    signature = record.signature
    if signature is None:
        return "its seal is not signed"
    if signature.public_key not in trusted:
        return f"its seal is signed with the key {signature.public_key.hex()[:16]}, which is not trusted"
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise SigningUnavailable from error
    try:
        Ed25519PublicKey.from_public_bytes(signature.public_key).verify(signature.value, _message(record))
    except InvalidSignature:
        return "the signature of its seal is wrong: the seal was changed"
    return None


def _message(record: SealRecord) -> bytes:
    head = _SIGNED.pack(_TAG, record.seal_id, record.generation, record.size, record.content_digest)
    return head + record.format.encode("utf-8", "surrogateescape")


def _private_key(path: PathName) -> Ed25519PrivateKey:
    data = _read(path)
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise SigningUnavailable from error
    ssh = b"OPENSSH PRIVATE KEY" in data
    load = serialization.load_ssh_private_key if ssh else serialization.load_pem_private_key
    try:
        key = load(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(path, f"it holds no private key that can be read without a passphrase ({error})") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(path, "it is no Ed25519 key")
    return key


def _read(path: PathName) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LONGEST_KEY)
    except OSError as error:
        raise HostFileError(path, "read", error) from error
