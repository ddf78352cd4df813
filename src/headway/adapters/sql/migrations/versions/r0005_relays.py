"""How far events were told outside."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "relays",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("log_id", sa.String(32), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("relays")
