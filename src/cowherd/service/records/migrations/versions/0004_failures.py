"""Indexes that lead to what failed lately, in all and of one project."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes them."""
    op.create_index("events_by_action", "events", ["action", "id"])
    op.create_index("events_by_project", "events", ["project", "action", "id"])
