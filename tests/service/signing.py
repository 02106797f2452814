"""Keys, certificates of them, and signatures, made as their owners make them."""

from __future__ import annotations

import base64
import datetime
import uuid
from pathlib import Path
from typing import Any

HASH_METHODS = ("SHA-224", "SHA-256", "SHA-384", "SHA-512")
DAY = datetime.timedelta(days=1)


def new_key(key_type: str) -> Any:
    """Makes a private key for a type as `img_signature_key_type` names them; for a curve that is gone, one of another curve."""
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    if key_type == "RSA-PSS":
        return rsa.generate_private_key(65537, 2048)
    if key_type == "DSA":
        return dsa.generate_private_key(1024)  # in a moment, where a longer one takes many seconds
    curve = key_type.removeprefix("ECC_")
    return ec.generate_private_key(getattr(ec, curve, ec.SECP384R1)())


def write_certificate(
    directory: Path, key: Any, *, ending: str = ".pem", der: bool = False, begin: int = -1, end: int = 1
) -> str:
    """Writes a certificate that is valid from `begin` to `end` (days from now); returns its UUID."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    moment, name = datetime.datetime.now(datetime.UTC), x509.Name([])
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    signed = built.not_valid_before(moment + begin * DAY).not_valid_after(moment + end * DAY).sign(key, hashes.SHA256())
    form = serialization.Encoding.DER if der else serialization.Encoding.PEM
    found = str(uuid.uuid4())
    directory.mkdir(exist_ok=True)
    (directory / (found + ending)).write_bytes(signed.public_bytes(form))
    return found


def signed(key: Any, certificate: str, data: bytes, *, method: str = "SHA-256", key_type: str = "RSA-PSS") -> dict[str, str]:
    """Returns the properties of an image with these bytes."""
    return {
        "img_signature": base64.b64encode(_sign(key, data, method)).decode(),
        "img_signature_hash_method": method,
        "img_signature_key_type": key_type,
        "img_signature_certificate_uuid": certificate,
    }


def _sign(key: Any, data: bytes, method: str) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa

    hashed = getattr(hashes, method.replace("-", ""))()
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PSS(padding.MGF1(hashed), padding.PSS.MAX_LENGTH), hashed)
    if isinstance(key, dsa.DSAPrivateKey):
        return key.sign(data, hashed)
    return key.sign(data, ec.ECDSA(hashed))
