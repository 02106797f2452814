"""A seal's record: what it says of an image apart from the digests of its blocks, as values and as JSON."""

from __future__ import annotations

from cowherd.herd.records import checked
from cowherd.herd.records.block import BLOCK, DIGEST_BYTES
from cowherd.herd.records.place import Place, places_from_json
from cowherd.storage.attributes import Attributes
from cowherd.storage.identity import FileIdentity
from cowherd.storage.protection import Protection
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self


SUFFIX = ".seal"

MAX_SIZE = (1 << 63) - BLOCK
_MAX_CHAIN = 1000
_LONGEST_FORMAT = 32
_LONGEST_TEXT = 4096


class ChainFile(NamedTuple):
    """A backing file through which the sealed content was read: its name then, its identity, and the content digest in its seal.

    `atime_ns` is when it was last read then, in nanoseconds.
    """

    name: str
    identity: FileIdentity
    content_digest: bytes | None
    atime_ns: int | None = None


class Signature(NamedTuple):
    """The signature of a seal (64 bytes) and the Ed25519 public key that it was made for (32 bytes); see `signing`."""

    public_key: bytes
    value: bytes


class KeptFor(NamedTuple):
    """The image that a kept seal is for: at `path`, on the file system `uuid` if that is known, or the device called `device`."""

    path: str
    uuid: str | None = None
    device: str | None = None

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Reads what `_asdict` gave. Raises ValueError where it makes no sense."""
        for name in cls._fields:
            value = facts.get(name)
            if not (isinstance(value, str) and len(value) <= _LONGEST_TEXT) and (value is not None or name == "path"):
                raise ValueError(f"the place of the seal has no '{name}'")
        return cls(facts["path"], facts.get("uuid"), facts.get("device"))

    @property
    def key(self) -> str:
        """Key by which the seal is found."""
        return f"device {self.device}" if self.device else self.path


class SealRecord(NamedTuple):
    """What a seal says apart from the digests of the blocks.

    `seal_id` (16 bytes) names the seal and stays the same when the image is sealed again; `generation` counts from 1.
    `chain` lists the files below the image, nearest first. `mode_before` is the file mode that unsealing restores.
    `immutable_before`: the file was immutable before it was sealed, so unsealing leaves it so. `shadow_file` is the identity of
    the file `shadow`; None in a seal that an older cowherd wrote. `places` are the directories in which overlays of it were made
    or seen; the signature does not cover them. `attributes` are the file's owner, labels and so on, None if an older cowherd did
    not record them. `kept_for` names the image if the seal does not lie beside it. `of_file`: the seal covers the bytes of a file
    in a format that cowherd does not read, not what a guest sees. `atime_ns` is when the file was last read, in nanoseconds; it
    helps to tell that somebody set times by hand (None in older seals). `certain`: the clock had ticked between the last change
    and the recording of the identities, so that a later change shows in them.
    """

    seal_id: bytes
    generation: int
    content_digest: bytes
    size: int
    format: str
    identity: FileIdentity
    chain: tuple[ChainFile, ...]
    level: Protection
    mode_before: int
    shadow: str | None
    created: str
    made_by: str
    signature: Signature | None = None
    immutable_before: bool = False
    shadow_file: FileIdentity | None = None
    places: tuple[Place, ...] = ()
    attributes: Attributes | None = None
    kept_for: KeptFor | None = None
    of_file: bool = False
    atime_ns: int | None = None
    certain: bool = True

    def generation_with(self, content_digest: bytes) -> int:
        """Returns the generation that a seal has which takes the place of this one: another content makes a new one."""
        return self.generation + (content_digest != self.content_digest)


def record_to_json(record: SealRecord) -> dict[str, Any]:
    """Returns a record as JSON can hold it."""
    return {
        "seal_id": record.seal_id.hex(),
        "generation": record.generation,
        "content_digest": record.content_digest.hex(),
        "size": record.size,
        "block_size": BLOCK,
        "format": record.format,
        "file": _file_to_json(record.identity, record.atime_ns),
        "chain": [_chain_to_json(file) for file in record.chain],
        "level": record.level.name,
        "mode_before": record.mode_before,
        "immutable_before": record.immutable_before,
        "shadow": record.shadow,
        "shadow_file": record.shadow_file.to_dict() if record.shadow_file else None,
        "created": record.created,
        "made_by": record.made_by,
        **_signature_to_json(record.signature),
        **({"places": [list(place) for place in record.places]} if record.places else {}),
        **({"attributes": record.attributes.to_dict()} if record.attributes else {}),
        **({"place": record.kept_for._asdict()} if record.kept_for else {}),
        **({"of_file": True} if record.of_file else {}),
        **({} if record.certain else {"certain": False}),
    }


def _file_to_json(identity: FileIdentity, atime_ns: int | None) -> dict[str, int]:
    return {**identity.to_dict(), **({} if atime_ns is None else {"atime_ns": atime_ns})}


def _atime_from_json(fields: dict[str, object]) -> int | None:
    value = fields.get("atime_ns")
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"{value!r} is not a time")
    return value


def _signature_to_json(signature: Signature | None) -> dict[str, Any]:
    return {"signature": {"key": signature.public_key.hex(), "value": signature.value.hex()}} if signature else {}


def _signature_from_json(fields: dict[str, Any]) -> Signature:
    return Signature(checked.digest(checked.field(fields, "key"), 32), checked.digest(checked.field(fields, "value"), 64))


def _chain_to_json(file: ChainFile) -> dict[str, Any]:
    digest = file.content_digest.hex() if file.content_digest else None
    return {"name": file.name, "file": _file_to_json(file.identity, file.atime_ns), "content_digest": digest}


def record_from_json(fields: dict[str, Any]) -> SealRecord:
    """Reads what `record_to_json` of this or an older cowherd gave. Raises ValueError where it makes no sense."""
    fields = checked.dictionary(fields)
    if checked.whole(checked.field(fields, "block_size")) != BLOCK:
        raise ValueError(f"blocks of {fields['block_size']} bytes")
    shadow, shadow_file = fields.get("shadow"), fields.get("shadow_file")
    return SealRecord(
        seal_id=checked.digest(checked.field(fields, "seal_id"), 16),
        generation=checked.whole(checked.field(fields, "generation"), MAX_SIZE),
        content_digest=checked.digest(checked.field(fields, "content_digest"), DIGEST_BYTES),
        size=checked.whole(checked.field(fields, "size"), MAX_SIZE),
        format=checked.word(checked.field(fields, "format"), _LONGEST_FORMAT),
        identity=_identity(checked.field(fields, "file")),
        chain=tuple(_chain_from_json(file) for file in checked.row(checked.field(fields, "chain"), _MAX_CHAIN)),
        level=_level(checked.field(fields, "level")),
        mode_before=checked.whole(checked.field(fields, "mode_before"), 0o7777),
        shadow=None if shadow is None else checked.plain_name(shadow),
        created=checked.word(checked.field(fields, "created")),
        made_by=checked.word(checked.field(fields, "made_by")),
        signature=_signature_from_json(checked.dictionary(fields["signature"])) if "signature" in fields else None,
        immutable_before=checked.yes_or_no(fields.get("immutable_before", False)),
        shadow_file=None if shadow_file is None else _identity(shadow_file),
        places=places_from_json(fields.get("places", [])),
        attributes=Attributes.from_dict(checked.dictionary(fields["attributes"])) if "attributes" in fields else None,
        kept_for=KeptFor.from_dict(checked.dictionary(fields["place"])) if "place" in fields else None,
        of_file=checked.yes_or_no(fields.get("of_file", False)),
        atime_ns=_atime_from_json(checked.dictionary(checked.field(fields, "file"))),
        certain=checked.yes_or_no(fields.get("certain", True)),
    )


def _chain_from_json(file: object) -> ChainFile:
    fields = checked.dictionary(file)
    digest = checked.field(fields, "content_digest")
    content = None if digest is None else checked.digest(digest, DIGEST_BYTES)
    return ChainFile(checked.path_name(checked.field(fields, "name")), _identity(checked.field(fields, "file")), content)


def _identity(value: object) -> FileIdentity:
    return FileIdentity.from_dict(checked.dictionary(value))


def _level(value: object) -> Protection:
    name = checked.text(value)
    if name not in Protection.__members__:
        raise ValueError(f"{name[:20]!a} is no level of protection")
    return Protection[name]
