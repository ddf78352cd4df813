"""Keys of events, and what events have told of the objects of a cluster."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("events", sa.Column("key", sa.String(160)))
    op.create_index("uq_events_key", "events", ["key"], unique=True)
    op.create_table(
        "sightings",
        sa.Column("uid", sa.String(63), primary_key=True),
        sa.Column("kind", sa.String(63), nullable=False),
        sa.Column("namespace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("version", sa.String(40), nullable=False),
        sa.Column("facts", sa.JSON(none_as_null=True)),
        sa.Column("gone_at", sa.Double()),
    )
    op.create_index("ix_sightings_gone_at", "sightings", ["gone_at"])


def downgrade() -> None:
    op.drop_table("sightings")
    op.drop_index("uq_events_key", "events")
    op.drop_column("events", "key")
