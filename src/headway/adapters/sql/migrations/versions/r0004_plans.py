"""Capacity plans."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "plans",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("basis", sa.JSON(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_plans_model_number", "plans", ["model", "number"])


def downgrade() -> None:
    op.drop_table("plans")
