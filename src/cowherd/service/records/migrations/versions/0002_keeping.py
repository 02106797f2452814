"""Which process keeps the stores in order, and what file a place had when it was verified."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0002"
down_revision = "0001"

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Makes room for both."""
    op.create_table(
        "leases",
        Column("name", _TEXT, nullable=False),
        Column("holder", _TEXT, nullable=False),
        Column("leased_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column("places", Column("identity", sa.JSON()))
