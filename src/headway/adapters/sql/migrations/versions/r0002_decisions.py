"""Scaling decisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    counters = sa.table("counters", sa.column("name", sa.String), sa.column("value", sa.BigInteger))
    op.bulk_insert(counters, [{"name": "decision_cursor", "value": 0}])
    op.create_table(
        "decisions",
        sa.Column("cursor", key, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("version", sa.String(20), nullable=False),
        sa.Column("current", sa.Integer(), nullable=False),
        sa.Column("desired", sa.Integer(), nullable=False),
        sa.Column("binding", sa.String(80), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("shadow", sa.Boolean(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_decisions_model_version_at", "decisions", ["model", "version", "at", "cursor"])
    op.create_index("ix_decisions_model_at", "decisions", ["model", "at", "cursor"])
    op.create_index("ix_decisions_at", "decisions", ["at", "model", "version"])


def downgrade() -> None:
    op.drop_table("decisions")
    op.execute("DELETE FROM counters WHERE name = 'decision_cursor'")
