"""The tables, as SQLAlchemy Core sees them.

Plain columns hold what is looked up or compared; ``document`` holds the rest of the aggregate as JSON
(:mod:`headway.adapters.sql.documents`). Only types and constraints that SQLite and PostgreSQL both
have are used. The tables are made by the migrations; a test compares them with what stands here.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

metadata: Final = sa.MetaData()

# SQLite makes a key of type INTEGER, and only that, an alias of its 64-bit row id.
_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

counters: Final = sa.Table(
    "counters",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.BigInteger(), nullable=False),
)
"""Numbers that only grow. The row is locked from the draw to the commit, so whoever draws later commits
later: a reader that has seen cursor N will never see a smaller one appear, in PostgreSQL neither, where
sequences do not give that. Deleting rows elsewhere does not make a number come back."""

EVENT_CURSOR: Final = "event_cursor"
RESOURCE_VERSION: Final = "resource_version"
DECISION_CURSOR: Final = "decision_cursor"

deployments: Final = sa.Table(
    "deployments",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("resource_version", sa.BigInteger(), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("document", sa.JSON(), nullable=False),
)

versions: Final = sa.Table(
    "versions",
    metadata,
    sa.Column("model", sa.ForeignKey("deployments.name", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", sa.String(20), primary_key=True),
    sa.Column("position", sa.Integer(), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("document", sa.JSON(), nullable=False),
)

events: Final = sa.Table(
    "events",
    metadata,
    sa.Column("cursor", _KEY, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double(), nullable=False),
    sa.Column("type", sa.String(60), nullable=False),
    sa.Column("model", sa.String(63)),
    sa.Column("version", sa.String(20)),
    sa.Column("replica", sa.String(63)),
    sa.Column("data", sa.JSON(), nullable=False),
    sa.Column("key", sa.String(160)),
    sa.Index("ix_events_model_cursor", "model", "cursor"),
    sa.Index("uq_events_key", "key", unique=True),
)

tokens: Final = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", _KEY, primary_key=True),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("scope", sa.String(20), nullable=False),
    sa.Column("models", sa.JSON(none_as_null=True)),
    sa.Column("created_at", sa.Double(), nullable=False),
    sa.Column("expires_at", sa.Double()),
    sa.Column("revoked_at", sa.Double()),
    sqlite_autoincrement=True,
)
sa.Index(
    "uq_tokens_unrevoked_name",
    tokens.c.name,
    unique=True,
    sqlite_where=tokens.c.revoked_at.is_(None),
    postgresql_where=tokens.c.revoked_at.is_(None),
)

decisions: Final = sa.Table(
    "decisions",
    metadata,
    sa.Column("cursor", _KEY, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double(), nullable=False),
    sa.Column("model", sa.String(63), nullable=False),
    sa.Column("version", sa.String(20), nullable=False),
    sa.Column("current", sa.Integer(), nullable=False),
    sa.Column("desired", sa.Integer(), nullable=False),
    sa.Column("binding", sa.String(80), nullable=False),
    sa.Column("summary", sa.Text(), nullable=False),
    sa.Column("shadow", sa.Boolean(), nullable=False),
    sa.Column("document", sa.LargeBinary(), nullable=False),
    sa.Column("role", sa.String(20), nullable=False, server_default="serve"),
    sa.Index("ix_decisions_model_version_role_at", "model", "version", "role", "at", "cursor"),
    sa.Index("ix_decisions_model_role_at", "model", "role", "at", "cursor"),
    sa.Index("ix_decisions_at", "at", "model", "version", "role"),
)
"""Not tied to a deployment: a deleted model's decisions stay until they expire. ``document`` is JSON, deflated."""

plans: Final = sa.Table(
    "plans",
    metadata,
    sa.Column("number", _KEY, primary_key=True),
    sa.Column("model", sa.String(63), nullable=False),
    sa.Column("at", sa.Double(), nullable=False),
    sa.Column("basis", sa.JSON(), nullable=False),
    sa.Column("document", sa.JSON(), nullable=False),
    sa.Index("ix_plans_model_number", "model", "number"),
    sqlite_autoincrement=True,
)
"""Capacity plans. Not tied to a deployment: of each name the newest ones stay."""

relays: Final = sa.Table(
    "relays",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("log_id", sa.String(32), nullable=False),
    sa.Column("cursor", sa.BigInteger(), nullable=False),
)
"""Up to which event each relay has told what happened; ``log_id`` is a part of what its messages are named."""

sightings: Final = sa.Table(
    "sightings",
    metadata,
    sa.Column("uid", sa.String(63), primary_key=True),
    sa.Column("kind", sa.String(63), nullable=False),
    sa.Column("namespace", sa.String(63), nullable=False),
    sa.Column("name", sa.String(253), nullable=False),
    sa.Column("version", sa.String(40), nullable=False),
    sa.Column("facts", sa.JSON(none_as_null=True)),
    sa.Column("gone_at", sa.Double()),
    sa.Index("ix_sightings_gone_at", "gone_at"),
)
"""What events have told of each object of a cluster: what it was like when it was last looked at."""
