"""Decisions about workers beside those about replicas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("decisions", sa.Column("role", sa.String(20), nullable=False, server_default="serve"))
    op.drop_index("ix_decisions_model_version_at", "decisions")
    op.drop_index("ix_decisions_model_at", "decisions")
    op.drop_index("ix_decisions_at", "decisions")
    op.create_index("ix_decisions_model_version_role_at", "decisions", ["model", "version", "role", "at", "cursor"])
    op.create_index("ix_decisions_model_role_at", "decisions", ["model", "role", "at", "cursor"])
    op.create_index("ix_decisions_at", "decisions", ["at", "model", "version", "role"])


def downgrade() -> None:
    op.execute("DELETE FROM decisions WHERE role <> 'serve'")
    op.drop_index("ix_decisions_model_version_role_at", "decisions")
    op.drop_index("ix_decisions_model_role_at", "decisions")
    op.drop_index("ix_decisions_at", "decisions")
    op.drop_column("decisions", "role")
    op.create_index("ix_decisions_model_version_at", "decisions", ["model", "version", "at", "cursor"])
    op.create_index("ix_decisions_model_at", "decisions", ["model", "at", "cursor"])
    op.create_index("ix_decisions_at", "decisions", ["at", "model", "version"])
