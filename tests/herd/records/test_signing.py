from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cowherd.cli.guard.main import main
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.move import move
from cowherd.herd.records.sealfile import read_digests, read_record
from cowherd.herd.records.sealwriting import write_seal
from cowherd.herd.records.signing import KeyUnusable, SigningUnavailable, public_key, signer
from cowherd.herd.repair.repair import repair
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.seals.verify import verify
from tests.herd.qemu_herd import content, make_base, noise, write

pytest.importorskip("cryptography")
pytestmark = pytest.mark.qemu("qemu-io")

CONTENT = noise(1 << 20)


@pytest.fixture
def keys(tmp_path_factory):
    """Returns the files of a private and a public key."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    place, key = tmp_path_factory.mktemp("keys"), Ed25519PrivateKey.generate()
    pem = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    ssh = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.OpenSSH, s.NoEncryption())
    locked = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret"))
    public = key.public_key()
    (place / "key").write_bytes(pem)
    (place / "ssh").write_bytes(ssh)
    (place / "locked").write_bytes(locked)
    (place / "pub").write_bytes(public.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    (place / "ssh.pub").write_bytes(public.public_bytes(s.Encoding.OpenSSH, s.PublicFormat.OpenSSH))
    return place


@pytest.fixture
def herd(tmp_path, keys):
    """A base with a signed seal and an overlay."""
    make_base(tmp_path / "base", CONTENT)
    seal(tmp_path / "base", sign_with=keys / "key")
    clone(tmp_path / "base", tmp_path / "o")
    return tmp_path


def statuses(herd, keys, **how) -> dict[str, str]:
    return {row.path.name: row.status.value for row in verify(herd=[herd], trusted=[public_key(keys / "pub")], **how)}


def test_a_seal_signed_by_a_trusted_key_is_ok(herd, keys):
    assert statuses(herd, keys) == statuses(herd, keys, full=True) == {"base": "ok", "o": "ok"}


def test_a_seal_without_a_signature_is_untrusted_only_where_trust_is_asked(herd, keys):
    unseal(herd / "base", force=True)
    seal(herd / "base")
    assert statuses(herd, keys) == {"base": "untrusted", "o": "untrusted"}
    assert {row.status.value for row in verify(herd=[herd])} == {"ok"}


def test_a_base_whose_seal_was_removed_is_untrusted(herd, keys):
    (herd / "base.seal").unlink()
    assert statuses(herd, keys) == {"base": "untrusted", "o": "untrusted"}


def test_a_seal_signed_by_another_key_is_untrusted(herd, keys):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert {row.status.value for row in verify(herd=[herd], trusted=[other])} == {"untrusted"}


@pytest.mark.parametrize("field", ["content_digest", "size", "generation", "seal_id", "format"])
def test_a_record_that_was_changed_is_untrusted(herd, keys, field):
    record, digests = read_digests(herd / "base.seal")
    other = {"content_digest": bytes(32), "size": 1 << 19, "generation": 2, "seal_id": bytes(16), "format": "raw"}[field]
    write_seal(herd / "base.seal", record._replace(**{field: other}), digests)
    assert statuses(herd, keys)["base"] == "untrusted"


def test_a_base_changed_together_with_an_unsigned_seal_is_found_out(herd, keys):
    signature = read_record(herd / "base.seal").signature
    unseal(herd / "base", force=True)
    write(herd / "base", "write -P 1 0 64k")
    forged = seal(herd / "base", force=True)
    record, digests = read_digests(forged.seal)
    write_seal(forged.seal, record._replace(signature=signature), digests)
    assert statuses(herd, keys)["base"] == "untrusted"


def test_a_signature_outlives_refreshing_resealing_and_moving(herd, keys):
    (herd / "base").touch()
    verify(herd=[herd], full=True, refresh_seals=True)
    seal(herd / "base")
    move(herd / "base", herd / "new")
    assert statuses(herd, keys) == {"new": "ok", "o": "ok"}


def test_a_new_content_has_no_signature_until_it_is_signed_again(herd, keys):
    make_base(herd / "twin", CONTENT)
    write(herd / "base", "write -P 1 0 64k")
    repair(herd / "base", preserve=True)
    assert statuses(herd, keys)["base"] == "untrusted"
    seal(herd / "base", sign_with=keys / "ssh")
    assert statuses(herd, keys)["base"] == "ok"
    assert content(herd / "o") == CONTENT


def test_an_older_signed_pair_that_was_put_back_is_untrusted_until_it_is_signed_again(herd, keys, monkeypatch):
    monkeypatch.setenv("COWHERD_CATALOG", str(keys / "catalog"))
    older = {name: (herd / name).read_bytes() for name in ("base", "base.seal")}
    make_base(herd / "twin", CONTENT)
    write(herd / "base", "write -P 1 0 64k")
    repair(herd / "base", preserve=True)
    seal(herd / "base", sign_with=keys / "key")
    assert statuses(herd, keys, full=True)["base"] == "ok"
    for name, data in older.items():
        os.chmod(herd / name, 0o600)
        (herd / name).write_bytes(data)
    found = {row.path.name: row for row in verify(herd=[herd], full=True, trusted=[public_key(keys / "pub")])}
    assert found["base"].status == "untrusted"
    assert "older" in found["base"].detail
    verify(herd=[herd], full=True, refresh_seals=True)
    seal(herd / "base", sign_with=keys / "key")
    assert statuses(herd, keys, full=True)["base"] == "ok"
    assert statuses(herd, keys, full=True)["o"] == "binding-mismatch"


def test_keys_of_openssh_are_the_same_keys(keys):
    assert public_key(keys / "ssh.pub") == public_key(keys / "pub")


@pytest.mark.parametrize("name", ["pub", "locked"])
def test_what_is_no_usable_private_key_is_refused_before_anything_is_sealed(tmp_path, keys, name):
    make_base(tmp_path / "base", CONTENT)
    with pytest.raises(KeyUnusable):
        seal(tmp_path / "base", sign_with=keys / name)
    assert not (tmp_path / "base.seal").exists()


def test_a_private_key_is_no_public_key(keys):
    with pytest.raises(KeyUnusable):
        public_key(keys / "key")


def test_without_the_package_the_error_says_what_to_install(keys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("cryptography")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(SigningUnavailable, match=r"cowherd\[sign\]"):
        signer(keys / "key")


def test_openssl_agrees_with_the_signature(herd, keys, tmp_path_factory):
    place = tmp_path_factory.mktemp("openssl")
    record = read_record(herd / "base.seal")
    numbers = record.generation.to_bytes(8, "little") + record.size.to_bytes(8, "little")
    message = b"cowherd seal signature 1".ljust(26, b"\0") + record.seal_id + numbers + record.content_digest + b"qcow2"
    (place / "message").write_bytes(message)
    (place / "signature").write_bytes(record.signature.value)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", keys / "pub", "-rawin"]
    try:
        done = subprocess.run(
            [*command, "-in", place / "message", "-sigfile", place / "signature"], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert done.returncode == 0, done.stderr


def test_the_commands_sign_and_trust(herd, keys, capsys):
    make_base(herd / "other", CONTENT)
    assert main(["seal", str(herd / "other"), "--sign", str(keys / "key"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["signed_by"] == public_key(keys / "pub").hex()
    assert main(["verify", "--herd", str(herd), "--trusted", str(keys / "pub")]) == 0
    (herd / "base.seal").unlink()
    assert main(["verify", "--herd", str(herd), "--trusted", str(keys / "pub")]) == 4
    assert main(["verify", "--herd", str(herd), "--trusted", str(keys / "key")]) == 2
