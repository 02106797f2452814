"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0001"
down_revision = None

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_MOMENT = sa.BigInteger()
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Makes them."""
    op.create_table(
        "blobs",
        Column("digest", _TEXT, nullable=False),
        Column("size", sa.BigInteger(), nullable=False),
        Column("md5", _TEXT),
        Column("sha256", _TEXT),
        Column("sha512", _TEXT),
        Column("format", _TEXT),
        Column("virtual_size", sa.BigInteger()),
        Column("content_digest", _TEXT),
        Column("created_at", _MOMENT, nullable=False),
        Column("unused_since", _MOMENT),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("blobs_content_digest", "blobs", ["content_digest"])
    op.create_index("blobs_unused_since", "blobs", ["unused_since"])
    op.create_table(
        "events",
        Column("id", _NUMBER, nullable=False),
        Column("at", _MOMENT, nullable=False),
        Column("action", _TEXT, nullable=False),
        Column("user_id", _TEXT),
        Column("project", _TEXT),
        Column("request_id", _TEXT),
        Column("image_id", _TEXT),
        Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("events_by_age", "events", ["at"])
    op.create_index("events_by_image", "events", ["image_id", "at"])
    op.create_table(
        "metadefs",
        Column("id", _NUMBER, nullable=False),
        Column("kind", _TEXT, nullable=False),
        Column("namespace", _TEXT, nullable=False),
        Column("name", _TEXT, nullable=False),
        Column("owner", _TEXT),
        Column("visibility", _TEXT),
        Column("body", sa.JSON(), nullable=False),
        Column("created_at", _MOMENT, nullable=False),
        Column("updated_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("kind", "namespace", "name"),
    )
    op.create_table(
        "quotas",
        Column("project", _TEXT, nullable=False),
        Column("resource", _TEXT, nullable=False),
        Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "resource"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tasks",
        Column("id", _TEXT, nullable=False),
        Column("type", _TEXT, nullable=False),
        Column("status", _TEXT, nullable=False),
        Column("owner", _TEXT),
        Column("image_id", _TEXT),
        Column("request_id", _TEXT),
        Column("user_id", _TEXT),
        Column("input", sa.JSON(), nullable=False),
        Column("result", sa.JSON()),
        Column("message", _TEXT, nullable=False),
        Column("progress", sa.JSON(), nullable=False),
        Column("holder", _TEXT),
        Column("leased_until", _MOMENT),
        Column("created_at", _MOMENT, nullable=False),
        Column("updated_at", _MOMENT, nullable=False),
        Column("expires_at", _MOMENT),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("tasks_by_age", "tasks", ["created_at", "id"])
    op.create_index("tasks_by_expiry", "tasks", ["expires_at"])
    op.create_index("tasks_by_image", "tasks", ["image_id", "created_at"])
    op.create_index("tasks_by_status", "tasks", ["status", "created_at"])
    op.create_table(
        "images",
        Column("id", _TEXT, nullable=False),
        Column("name", _TEXT),
        Column("status", _TEXT, nullable=False),
        Column("visibility", _TEXT, nullable=False),
        Column("protected", sa.Boolean(), nullable=False),
        Column("os_hidden", sa.Boolean(), nullable=False),
        Column("owner", _TEXT),
        Column("checksum", _TEXT),
        Column("os_hash_algo", _TEXT),
        Column("os_hash_value", _TEXT),
        Column("size", sa.BigInteger()),
        Column("virtual_size", sa.BigInteger()),
        Column("container_format", _TEXT),
        Column("disk_format", _TEXT),
        Column("min_ram", sa.BigInteger(), nullable=False),
        Column("min_disk", sa.BigInteger(), nullable=False),
        Column("created_at", _MOMENT, nullable=False),
        Column("updated_at", _MOMENT, nullable=False),
        Column("version", sa.BigInteger(), nullable=False),
        Column("reason", _TEXT),
        Column("blob", _TEXT),
        Column("properties", sa.JSON(), nullable=False),
        Column("tags", sa.JSON(), nullable=False),
        Column("locations", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["blob"], ["blobs.digest"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("images_by_age", "images", ["os_hidden", "created_at", "id"])
    op.create_index("images_by_blob", "images", ["blob"])
    op.create_index("images_by_checksum", "images", ["checksum", "created_at", "id"])
    op.create_index("images_by_hash", "images", ["os_hash_value", "created_at", "id"])
    op.create_index("images_by_name", "images", ["name", "created_at", "id"])
    op.create_index("images_by_owner", "images", ["owner", "os_hidden", "created_at", "id"])
    op.create_index("images_by_status", "images", ["status", "created_at", "id"])
    op.create_index("images_by_visibility", "images", ["visibility", "os_hidden", "created_at", "id"])
    op.create_table(
        "places",
        Column("blob", _TEXT, nullable=False),
        Column("store", _TEXT, nullable=False),
        Column("state", _TEXT, nullable=False),
        Column("verified_at", _MOMENT),
        Column("verified_how", _TEXT),
        Column("damage", sa.JSON()),
        sa.ForeignKeyConstraint(["blob"], ["blobs.digest"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("blob", "store"),
        sqlite_with_rowid=False,
    )
    op.create_index("places_by_state", "places", ["state"])
    op.create_index("places_by_verification", "places", ["store", "verified_at"])
    op.create_table(
        "lineage",
        Column("child", _TEXT, nullable=False),
        Column("base_content", _TEXT, nullable=False),
        Column("base", _TEXT),
        Column("claim", _TEXT, nullable=False),
        sa.ForeignKeyConstraint(["base"], ["images.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["child"], ["images.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("child"),
    )
    op.create_index("lineage_base", "lineage", ["base"])
    op.create_index("lineage_base_content", "lineage", ["base_content"])
    op.create_table(
        "members",
        Column("image_id", _TEXT, nullable=False),
        Column("member", _TEXT, nullable=False),
        Column("status", _TEXT, nullable=False),
        Column("created_at", _MOMENT, nullable=False),
        Column("updated_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "member"),
        sqlite_with_rowid=False,
    )
    op.create_index("members_by_member", "members", ["member", "status", "image_id"])
    op.create_table(
        "properties",
        Column("image_id", _TEXT, nullable=False),
        Column("name", _TEXT, nullable=False),
        Column("value", _TEXT, nullable=False),
        Column("created_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tags",
        Column("image_id", _TEXT, nullable=False),
        Column("tag", _TEXT, nullable=False),
        Column("created_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "tag"),
        sqlite_with_rowid=False,
    )
    op.create_index("tags_by_tag", "tags", ["tag", "created_at", "image_id"])
    op.create_table(
        "uploads",
        Column("id", _TEXT, nullable=False),
        Column("image_id", _TEXT, nullable=False),
        Column("kind", _TEXT, nullable=False),
        Column("project", _TEXT),
        Column("store", _TEXT, nullable=False),
        Column("temporary", _TEXT),
        Column("offset", sa.BigInteger(), nullable=False),
        Column("length", sa.BigInteger()),
        Column("reserved", sa.BigInteger(), nullable=False),
        Column("digest", _TEXT),
        Column("details", sa.JSON(), nullable=False),
        Column("created_at", _MOMENT, nullable=False),
        Column("expires_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("uploads_by_digest", "uploads", ["digest"])
    op.create_index("uploads_by_expiry", "uploads", ["expires_at"])
    op.create_index("uploads_by_image", "uploads", ["image_id"])
    op.create_index("uploads_by_project", "uploads", ["project"])
    op.create_index("properties_by_value", "properties", ["name", sa.text("substr(value, 1, 200)"), "created_at", "image_id"])
