"""Signatures are believed if the bytes were signed with the key of a certificate that the service has, and of no other."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import Any

import pytest

from cowherd.service.intake.faults import SignatureRefused
from cowherd.service.intake.signatures import HASHES, KEY_TYPES, PROPERTIES, verifier_of
from tests.service.signing import HASH_METHODS, new_key, signed, write_certificate

pytest.importorskip("cryptography")

DATA = b"the bytes of an image"
KEY = cache(new_key)


def verify(properties: dict[str, str], directory: Any, data: bytes = DATA) -> None:
    verifier = verifier_of(properties, str(directory))
    assert verifier is not None
    verifier.verify(hashlib.new(verifier.hash, data).digest())


@pytest.mark.parametrize("method", HASH_METHODS)
@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_each_type_of_key_and_each_hash_is_verified_and_other_bytes_are_not(tmp_path, key_type, method):
    key = KEY(key_type)
    properties = signed(key, write_certificate(tmp_path, key), DATA, method=method, key_type=key_type)
    verify(properties, tmp_path)
    with pytest.raises(SignatureRefused, match="not signed with the key"):
        verify(properties, tmp_path, DATA + b"!")


def test_the_key_of_another_certificate_does_not_count(tmp_path):
    other = write_certificate(tmp_path, new_key("RSA-PSS"))
    with pytest.raises(SignatureRefused, match="not signed with the key"):
        verify(signed(KEY("RSA-PSS"), other, DATA), tmp_path)


def test_a_salt_may_be_of_any_length(tmp_path):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    key = KEY("RSA-PSS")
    properties = signed(key, write_certificate(tmp_path, key), DATA)
    short = key.sign(DATA, padding.PSS(padding.MGF1(hashes.SHA256()), 20), hashes.SHA256())
    verify(properties | {"img_signature": base64.b64encode(short).decode()}, tmp_path)


@pytest.mark.parametrize("ending", [".pem", ".crt", ""])
@pytest.mark.parametrize("der", [True, False])
def test_a_certificate_is_found_by_its_uuid_in_either_form(tmp_path, ending, der):
    key = KEY("RSA-PSS")
    verify(signed(key, write_certificate(tmp_path, key, ending=ending, der=der), DATA), tmp_path)


def test_base64_in_lines_is_read_as_glance_reads_it(tmp_path):
    key = KEY("RSA-PSS")
    properties = signed(key, write_certificate(tmp_path, key), DATA)
    text = properties["img_signature"]
    verify(properties | {"img_signature": f"{text[:64]}\n{text[64:]}\n"}, tmp_path)


def test_base64_is_read_as_openstacks_client_writes_it(tmp_path):
    key = KEY("RSA-PSS")
    properties = signed(key, write_certificate(tmp_path, key), DATA)
    verify(properties | {"img_signature": str(properties["img_signature"].encode())}, tmp_path)


@pytest.mark.parametrize(("begin", "end"), [(-3, -1), (1, 3)])
def test_a_certificate_counts_only_while_it_is_valid(tmp_path, begin, end):
    key = KEY("RSA-PSS")
    with pytest.raises(SignatureRefused, match=r"valid from .* and not now"):
        verify(signed(key, write_certificate(tmp_path, key, begin=begin, end=end), DATA), tmp_path)


@pytest.mark.parametrize(("key_type", "stated"), [("RSA-PSS", "DSA"), ("DSA", "RSA-PSS"), ("RSA-PSS", "ECC_SECP384R1")])
def test_a_certificate_has_a_key_of_the_type_that_is_stated(tmp_path, key_type, stated):
    key = KEY(key_type)
    with pytest.raises(SignatureRefused, match=f"no key of the type {stated}"):
        verify(signed(key, write_certificate(tmp_path, key), DATA, key_type=stated), tmp_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"img_signature": "a"}, "not in Base64"),
        ({"img_signature": "ü"}, "not in Base64"),
        ({"img_signature": ""}, "not signed with the key"),
        ({"img_signature_hash_method": "MD5"}, "hash method is MD5"),
        ({"img_signature_hash_method": "sha256"}, "hash method is sha256"),
        ({"img_signature_key_type": "RSA"}, "type of its key is RSA"),
        ({"img_signature_key_type": "ECC_SECP256R1"}, "type of its key is ECC_SECP256R1"),
        ({"img_signature_certificate_uuid": "a" * 8 + "-aaaa-aaaa-aaaa-" + "a" * 12}, "there is no certificate"),
    ],
)
def test_what_can_not_be_verified_is_refused(tmp_path, changed, said):
    key = KEY("RSA-PSS")
    with pytest.raises(SignatureRefused, match=said):
        verify(signed(key, write_certificate(tmp_path, key), DATA) | changed, tmp_path)


@pytest.mark.parametrize("kind", ["path", "absolute", "newline", "NUL", "empty", "dots"])
def test_no_name_of_a_certificate_leads_out_of_the_directory(tmp_path, kind):
    key, directory = KEY("RSA-PSS"), tmp_path / "certificates"
    outside = write_certificate(tmp_path, key)
    directory.mkdir()
    names = {
        "path": f"../{outside}",
        "absolute": str(tmp_path / outside),
        "newline": f"{outside}\n",
        "NUL": f"{outside}\0",
        "empty": "",
        "dots": "..",
    }
    with pytest.raises(SignatureRefused, match="is no UUID"):
        verify(signed(key, names[kind], DATA), directory)


def test_a_file_that_is_no_certificate_is_told(tmp_path):
    key = KEY("RSA-PSS")
    name = write_certificate(tmp_path, key)
    properties = signed(key, name, DATA)
    for content in (b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        (tmp_path / f"{name}.pem").write_bytes(content)
        with pytest.raises(SignatureRefused, match="can't be used"):
            verify(properties, tmp_path)


def test_a_certificate_that_can_not_be_read_is_told(tmp_path):
    key = KEY("RSA-PSS")
    name = write_certificate(tmp_path, key)
    (tmp_path / f"{name}.pem").unlink()
    (tmp_path / f"{name}.pem").mkdir()
    with pytest.raises(SignatureRefused, match="can't be read"):
        verify(signed(key, name, DATA), tmp_path)


def test_without_certificates_no_signature_can_be_verified():
    with pytest.raises(SignatureRefused, match="signatures_certificates"):
        verifier_of(dict.fromkeys(PROPERTIES, "") | {"img_signature_hash_method": "SHA-256", "img_signature_key_type": "DSA"}, "")


@pytest.mark.parametrize("missing", sorted(PROPERTIES))
def test_only_all_four_properties_state_a_signature(missing):
    assert verifier_of(dict.fromkeys(PROPERTIES - {missing}, "nonsense"), "") is None


def test_every_hash_method_is_one_that_is_tried_here():
    assert tuple(HASHES) == HASH_METHODS
