"""The tables. `migrations` makes them step by step; `VERSION` names the last step.

Times are in microseconds UTC, sizes in bytes. What one image has is deleted with its row.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    func,
    literal_column,
)

from cowherd.service.records.columns import Key, Timestamp, Words

VERSION = "0004"
"""The revision of the migrations that makes these tables."""

_INDEXED_CHARACTERS = 200

metadata = MetaData()


def _words(name: str, **more: Any) -> Column[str]:
    return Column(name, Words(name), **more)


def _key(name: str, *more: Any, **options: Any) -> Column[str]:
    return Column(name, Key(name), *more, **options)


def _count(name: str, **more: Any) -> Column[int]:
    return Column(name, BigInteger, **more)


def _moment(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, Timestamp, nullable=nullable)


def _image(name: str = "image_id") -> Column[str]:
    """Returns the column of an image whose row takes this one along when it is deleted."""
    return _key(name, ForeignKey("images.id", ondelete="CASCADE"), nullable=False)


def beginning(value: ColumnElement[str] | str) -> ColumnElement[str]:
    """Returns what the index of properties holds of a value: a value can be long, and PostgreSQL's entries can't."""
    # Literal numbers: SQLite doesn't recognise the index by parameters.
    return func.substr(value, literal_column("1"), literal_column(str(_INDEXED_CHARACTERS)), type_=Words("value"))


blobs = Table(
    "blobs",
    metadata,
    _key("digest", primary_key=True),  # BLAKE3 of the file's bytes, in hexadecimal
    _count("size", nullable=False),
    _key("md5"),
    _key("sha256"),
    _key("sha512"),
    _key("format"),
    _count("virtual_size"),
    _key("content_digest"),  # of the guest-visible content, as in seals; not every format has one
    _moment("created_at"),
    _moment("unused_since", nullable=True),  # no image has had it since then
    Index("blobs_content_digest", "content_digest"),
    Index("blobs_unused_since", "unused_since"),
)

places = Table(
    "places",
    metadata,
    _key("blob", ForeignKey("blobs.digest", ondelete="CASCADE"), nullable=False),
    _key("store", nullable=False),
    _key("state", nullable=False),  # whole, damaged, missing
    _moment("verified_at", nullable=True),
    _key("verified_how"),
    Column("damage", JSON),  # [[start, end], ...] in bytes of the file
    Column("identity", JSON),  # of the file when it was verified whole: device, inode, size, mtime and ctime in nanoseconds
    PrimaryKeyConstraint("blob", "store"),
    Index("places_by_verification", "store", "verified_at"),
    Index("places_by_state", "state"),
    sqlite_with_rowid=False,
)

images = Table(
    "images",
    metadata,
    _key("id", primary_key=True),
    _key("name"),
    _key("status", nullable=False),
    _key("visibility", nullable=False),
    Column("protected", Boolean, nullable=False),
    Column("os_hidden", Boolean, nullable=False),
    _key("owner"),
    _key("checksum"),
    _key("os_hash_algo"),
    _key("os_hash_value"),
    _count("size"),
    _count("virtual_size"),
    _key("container_format"),
    _key("disk_format"),
    _count("min_ram", nullable=False),
    _count("min_disk", nullable=False),
    _moment("created_at"),
    _moment("updated_at"),
    _count("version", nullable=False),
    _words("reason"),
    _key("blob", ForeignKey("blobs.digest")),
    Column("properties", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("locations", JSON, nullable=False),
    # Each of these ends with the order of a page, so that the first images of a page are the first entries that are read.
    Index("images_by_age", "os_hidden", "created_at", "id"),
    Index("images_by_owner", "owner", "os_hidden", "created_at", "id"),
    Index("images_by_visibility", "visibility", "os_hidden", "created_at", "id"),
    Index("images_by_name", "name", "created_at", "id"),
    Index("images_by_checksum", "checksum", "created_at", "id"),
    Index("images_by_hash", "os_hash_value", "created_at", "id"),
    Index("images_by_status", "status", "created_at", "id"),
    Index("images_by_blob", "blob"),
)

# These two are for finding images: an image's row says the same. They repeat when their image was created, so that the images
# with a tag are found in the order of a page.
properties = Table(
    "properties",
    metadata,
    _image(),
    _key("name", nullable=False),
    _words("value", nullable=False),
    _moment("created_at"),
    PrimaryKeyConstraint("image_id", "name"),
    sqlite_with_rowid=False,
)
Index(
    "properties_by_value",
    properties.c.name,
    beginning(properties.c.value),
    properties.c.created_at,
    properties.c.image_id,
)

tags = Table(
    "tags",
    metadata,
    _image(),
    _key("tag", nullable=False),
    _moment("created_at"),
    PrimaryKeyConstraint("image_id", "tag"),
    Index("tags_by_tag", "tag", "created_at", "image_id"),
    sqlite_with_rowid=False,
)

members = Table(
    "members",
    metadata,
    _image(),
    _key("member", nullable=False),
    _key("status", nullable=False),  # pending, accepted, rejected
    _moment("created_at"),
    _moment("updated_at"),
    PrimaryKeyConstraint("image_id", "member"),
    Index("members_by_member", "member", "status", "image_id"),
    sqlite_with_rowid=False,
)

cached = Table(
    "cached",
    metadata,
    _key("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    _moment("at"),
)

lineage = Table(
    "lineage",
    metadata,
    _key("child", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    _key("base_content", nullable=False),
    _key("base", ForeignKey("images.id", ondelete="SET NULL")),
    _key("claim", nullable=False),  # binding, statement
    Index("lineage_base", "base"),
    Index("lineage_base_content", "base_content"),
)

uploads = Table(
    "uploads",
    metadata,
    _key("id", primary_key=True),
    _image(),
    _key("kind", nullable=False),
    _key("project"),
    _key("store", nullable=False),
    _key("temporary"),  # its name in the store
    _count("offset", nullable=False),  # how much of it is durable
    _count("length"),  # how long it will be, if the client said so
    _count("reserved", nullable=False),  # how much of the quota it holds
    _key("digest"),  # the blob that it is about to become
    Column("details", JSON, nullable=False),
    _moment("created_at"),
    _moment("expires_at"),
    Index("uploads_by_image", "image_id"),
    Index("uploads_by_project", "project"),
    Index("uploads_by_expiry", "expires_at"),
    Index("uploads_by_digest", "digest"),
)

tasks = Table(
    "tasks",
    metadata,
    _key("id", primary_key=True),
    _key("type", nullable=False),
    _key("status", nullable=False),  # pending, processing, success, failure
    _key("owner"),
    _key("image_id"),  # outlives the image
    _key("request_id"),
    _key("user_id"),
    Column("input", JSON, nullable=False),
    Column("result", JSON),
    _words("message", nullable=False),
    Column("progress", JSON, nullable=False),
    _key("holder"),  # which process works on it
    _moment("leased_until", nullable=True),
    _moment("created_at"),
    _moment("updated_at"),
    _moment("expires_at", nullable=True),
    Index("tasks_by_status", "status", "created_at"),
    Index("tasks_by_image", "image_id", "created_at"),
    Index("tasks_by_age", "created_at", "id"),
    Index("tasks_by_expiry", "expires_at"),
)

leases = Table(
    "leases",
    metadata,
    _key("name", primary_key=True),
    _key("holder", nullable=False),
    _moment("leased_until"),
)

metadefs = Table(
    "metadefs",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _key("kind", nullable=False),
    _key("namespace", nullable=False),
    _key("name", nullable=False),
    _key("owner"),
    _key("visibility"),
    Column("body", JSON, nullable=False),
    _moment("created_at"),
    _moment("updated_at"),
    UniqueConstraint("kind", "namespace", "name"),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _moment("at"),
    _key("action", nullable=False),
    _key("user_id"),
    _key("project"),
    _key("request_id"),
    _key("image_id"),  # outlives the image
    Column("detail", JSON, nullable=False),
    Index("events_by_age", "at"),
    Index("events_by_image", "image_id", "at"),
    Index("events_by_action", "action", "id"),
    Index("events_by_project", "project", "action", "id"),
)

quotas = Table(
    "quotas",
    metadata,
    _key("project", nullable=False),
    _key("resource", nullable=False),  # bytes, images, uploads
    _count("amount", nullable=False),
    PrimaryKeyConstraint("project", "resource"),
    sqlite_with_rowid=False,
)
