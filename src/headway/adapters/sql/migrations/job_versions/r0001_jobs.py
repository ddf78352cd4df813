"""Jobs, their contents, lines, callers, events and webhook deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "headway_jobs",
        sa.Column("job_id", sa.Text(), primary_key=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("urgency", sa.Integer(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("shelf", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("batch", sa.Text()),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("fingerprint", sa.LargeBinary()),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("submitted_at", sa.Double(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("deadline_at", sa.Double()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Text()),
        sa.Column("ran_version", sa.Text()),
        sa.Column("started_at", sa.Double()),
        sa.Column("lease_until", sa.Double()),
        sa.Column("finished_at", sa.Double()),
        sa.Column("keep_until", sa.Double()),
        sa.Column("cancel_at", sa.Double()),
        sa.Column("progress", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("result_status", sa.Integer()),
        sa.Column("result_content_type", sa.Text()),
        sa.Column("result_bytes", sa.BigInteger()),
        sa.Column("attend_at", sa.Double()),
    )
    op.create_table(
        "headway_job_contents",
        sa.Column("job_id", sa.Text(), primary_key=True),
        sa.Column("which", sa.Text(), primary_key=True),
        sa.Column("data", sa.LargeBinary()),
        sa.Column("file", sa.Text()),
    )
    op.create_table(
        "headway_job_lines",
        sa.Column("model", sa.Text(), primary_key=True),
        sa.Column("version", sa.Text(), primary_key=True),
        sa.Column("urgency", sa.Integer(), primary_key=True),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("queued", sa.BigInteger(), nullable=False),
        sa.Column("delayed", sa.BigInteger(), nullable=False),
        sa.Column("running", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "headway_job_callers",
        sa.Column("model", sa.Text(), primary_key=True),
        sa.Column("version", sa.Text(), primary_key=True),
        sa.Column("urgency", sa.Integer(), primary_key=True),
        sa.Column("client", sa.Text(), primary_key=True),
        sa.Column("turn", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "headway_job_events",
        sa.Column("cursor", key, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Text()),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text()),
    )
    op.create_table(
        "headway_job_deliveries",
        sa.Column("delivery_id", sa.Text(), primary_key=True),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("over_at", sa.Double()),
        sa.Column("reason", sa.Text()),
    )
    counters = op.create_table(
        "headway_job_counters",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", sa.BigInteger(), nullable=False),
    )
    op.bulk_insert(counters, [{"name": "event_cursor", "value": 0}])
    _index("ix_headway_jobs_model", "headway_jobs", ["model", "job_id"])
    _index(
        "ix_headway_jobs_key",
        "headway_jobs",
        ["model", "client", "idempotency_key"],
        unique=True,
        where="idempotency_key IS NOT NULL",
    )
    _index("ix_headway_jobs_batch", "headway_jobs", ["batch", "job_id"], where="batch IS NOT NULL")
    _index(
        "ix_headway_jobs_line",
        "headway_jobs",
        ["model", "version", "urgency", "turn", "job_id"],
        where="shelf = 'queued'",
    )
    _index("ix_headway_jobs_waiting", "headway_jobs", ["model", "version", "not_before"], where="shelf = 'queued'")
    _index("ix_headway_jobs_delayed", "headway_jobs", ["not_before"], where="shelf = 'delayed'")
    _index("ix_headway_jobs_attend", "headway_jobs", ["attend_at"], where="attend_at IS NOT NULL")
    _index("ix_headway_jobs_worker", "headway_jobs", ["worker"], where="shelf = 'running'")
    _index("ix_headway_jobs_keep", "headway_jobs", ["keep_until"], where="keep_until IS NOT NULL")
    _index("ix_headway_job_events_job", "headway_job_events", ["job_id", "cursor"])
    _index("ix_headway_job_events_model", "headway_job_events", ["model", "cursor"])
    _index("ix_headway_job_deliveries_due", "headway_job_deliveries", ["due_at"], where="over_at IS NULL")
    _index("ix_headway_job_deliveries_job", "headway_job_deliveries", ["job_id"])
    if op.get_context().dialect.name == "postgresql":
        # Rows of jobs change three times in their life: room for that beside them, and vacuum before they pile up.
        for table in ("headway_jobs", "headway_job_lines", "headway_job_callers", "headway_job_counters"):
            op.execute(
                f"ALTER TABLE {table} SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, "
                "autovacuum_vacuum_threshold = 1000)"
            )


def downgrade() -> None:
    for table in ("deliveries", "events", "callers", "lines", "contents"):
        op.drop_table(f"headway_job_{table}")
    op.drop_table("headway_job_counters")
    op.drop_table("headway_jobs")


def _index(name: str, table: str, columns: list[str], *, where: str | None = None, unique: bool = False) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
