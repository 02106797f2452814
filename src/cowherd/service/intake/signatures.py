"""Signatures of images, stated in four properties as Glance and Nova know them, and verified with certificates of a directory.

The file of a certificate is called by its UUID, with the ending `.pem` or `.crt` or none, and holds X.509 as PEM or DER. What is
signed are the image's bytes. RSA is PSS with MGF1 of the same hash, and a salt of any length. Unlike Glance, this asks that a
certificate be valid now. `cryptography` is loaded with the first signed image.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cowherd.herd.records.signing import SigningUnavailable
from cowherd.service.intake.faults import SignatureRefused
from cowherd.text import printable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
    from cryptography.x509 import Certificate

SIGNATURE, HASH_METHOD, KEY_TYPE = "img_signature", "img_signature_hash_method", "img_signature_key_type"
CERTIFICATE = "img_signature_certificate_uuid"
PROPERTIES = frozenset((SIGNATURE, HASH_METHOD, KEY_TYPE, CERTIFICATE))
"""The properties that state a signature, once an image has all of them."""
HASHES = {"SHA-224": "sha224", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}
"""Hashlib's names of the hash methods."""
RSA, DSA = "RSA-PSS", "DSA"
CURVES = ("SECT571K1", "SECT409K1", "SECT571R1", "SECT409R1", "SECP521R1", "SECP384R1")
KEY_TYPES = (RSA, DSA, *(f"ECC_{curve}" for curve in CURVES))
"""As for Glance, what is said of a curve need not be the certificate's: its own one counts."""
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_AS_PYTHON_SHOWS_IT = re.compile(r"^b'([^']*)'$")
"""How python-openstackclient sends a signature (10.5, --sign-key-path), for want of a decode. Base64 has no quotes."""
_ENDINGS = (".pem", ".crt", "")
_LONGEST_CERTIFICATE = 1 << 20


@dataclass(frozen=True)
class Verifier:
    """Verifies a `signature` with a `key`, of a type in `KEY_TYPES`; `hash` is hashlib's name of what was signed."""

    signature: bytes
    hash: str
    key: CertificatePublicKeyTypes

    def verify(self, digest: bytes) -> None:
        """Raises `SignatureRefused` unless it is the signature of the bytes that have this digest."""
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

        try:
            self._verify(digest)
        except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:  # as ValueError a key too short for the hash
            raise SignatureRefused("these bytes were not signed with the key of its certificate") from error

    def _verify(self, digest: bytes) -> None:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa, utils

        method = getattr(hashes, self.hash.upper())()
        hashed = utils.Prehashed(method)
        if isinstance(self.key, rsa.RSAPublicKey):
            # Signers take the longest salt. Told that, OpenSSL takes any when it verifies, so that Glance does too.
            scheme = padding.PSS(padding.MGF1(method), padding.PSS.AUTO)
            self.key.verify(self.signature, digest, scheme, hashed)
        elif isinstance(self.key, dsa.DSAPublicKey):
            self.key.verify(self.signature, digest, hashed)
        elif isinstance(self.key, ec.EllipticCurvePublicKey):
            self.key.verify(self.signature, digest, ec.ECDSA(hashed))
        else:
            raise AssertionError(f"{self.key!r} is no key of a type that is taken")


def verifier_of(properties: Mapping[str, str], certificates: str) -> Verifier | None:
    """Returns what verifies the signature that an image's properties state, None if they do not state one.

    `certificates` is the directory, "" if there is none. Raises `SignatureRefused` for a signature that can't be verified,
    `SigningUnavailable`.
    """
    if not properties.keys() >= PROPERTIES:
        return None
    method, key_type = properties[HASH_METHOD], properties[KEY_TYPE]
    if method not in HASHES:
        raise SignatureRefused(f"its hash method is {printable(method)}, and {', '.join(HASHES)} are known")
    if key_type not in KEY_TYPES:
        raise SignatureRefused(f"the type of its key is {printable(key_type)}, and {', '.join(KEY_TYPES)} are known")
    try:
        signature = base64.b64decode(_AS_PYTHON_SHOWS_IT.sub(r"\1", properties[SIGNATURE]))
    except ValueError as error:
        raise SignatureRefused(f"{SIGNATURE} is not in Base64") from error
    return Verifier(signature, HASHES[method], _key_of(certificates, properties[CERTIFICATE], key_type))


def _key_of(certificates: str, name: str, key_type: str) -> CertificatePublicKeyTypes:
    """Returns the key of a certificate that is valid now. Raises `SignatureRefused`, `SigningUnavailable`."""
    data = _read(certificates, name)
    try:
        from cryptography import x509
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
    except ImportError as error:
        raise SigningUnavailable from error
    load = x509.load_pem_x509_certificate if b"-----BEGIN" in data else x509.load_der_x509_certificate
    try:
        certificate = load(data)
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureRefused(f"its certificate {name} can't be used ({error})") from error
    _require_valid(name, certificate)
    wanted = {RSA: rsa.RSAPublicKey, DSA: dsa.DSAPublicKey}.get(key_type, ec.EllipticCurvePublicKey)
    if not isinstance(key, wanted):
        raise SignatureRefused(f"its certificate {name} has no key of the type {key_type}")
    return key


def _require_valid(name: str, certificate: Certificate) -> None:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not first <= datetime.now(UTC) <= last:
        raise SignatureRefused(f"its certificate {name} is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}, and not now")


def _read(certificates: str, name: str) -> bytes:
    """Returns the bytes of a certificate. Only a UUID is a name, so that none leads out of the directory."""
    if not certificates:
        raise SignatureRefused("the service has no certificates; its administrator can set signatures_certificates")
    if not _UUID.fullmatch(name):
        raise SignatureRefused(f"{CERTIFICATE} is no UUID")
    for ending in _ENDINGS:
        try:
            with open(os.path.join(certificates, name + ending), "rb") as file:
                return file.read(_LONGEST_CERTIFICATE)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SignatureRefused(f"its certificate {name} can't be read ({error.strerror})") from error
    raise SignatureRefused(f"there is no certificate {name}")
