"""Which images somebody wanted to be cached."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0003"
down_revision = "0002"

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Makes room for them."""
    op.create_table(
        "cached",
        Column("image_id", _TEXT, sa.ForeignKey("images.id", ondelete="CASCADE"), nullable=False),
        Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("image_id"),
    )
