"""The tables of jobs, as SQLAlchemy Core sees them.

The names carry a prefix, as a PostgreSQL database may hold tables of others. An empty ``version`` stands for
"whichever takes production traffic". ``shelf`` is the state, with ``queued`` split in two: ``queued`` is due,
``delayed`` waits for its not-before time. So the line in which a claim looks holds nothing that it would have to pass
over, and a job moves from ``delayed`` to ``queued`` once, by index. Totals are kept by line, as counting a million rows
takes too long.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

metadata: Final = sa.MetaData()

# SQLite makes a key of type INTEGER, and only that, an alias of its 64-bit row id.
_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _index(name: str, *columns: str, where: str | None = None, unique: bool = False) -> sa.Index:
    condition = None if where is None else sa.text(where)
    return sa.Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


jobs: Final = sa.Table(
    "headway_jobs",
    metadata,
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
    _index("ix_headway_jobs_model", "model", "job_id"),
    _index(
        "ix_headway_jobs_key", "model", "client", "idempotency_key", where="idempotency_key IS NOT NULL", unique=True
    ),
    _index("ix_headway_jobs_batch", "batch", "job_id", where="batch IS NOT NULL"),
    _index("ix_headway_jobs_line", "model", "version", "urgency", "turn", "job_id", where="shelf = 'queued'"),
    _index("ix_headway_jobs_waiting", "model", "version", "not_before", where="shelf = 'queued'"),
    _index("ix_headway_jobs_delayed", "not_before", where="shelf = 'delayed'"),
    _index("ix_headway_jobs_attend", "attend_at", where="attend_at IS NOT NULL"),
    _index("ix_headway_jobs_worker", "worker", where="shelf = 'running'"),
    _index("ix_headway_jobs_keep", "keep_until", where="keep_until IS NOT NULL"),
)
"""``urgency`` is 9 - priority, so that every order is ascending. ``attend_at``: when a sweep has something to do."""

contents: Final = sa.Table(
    "headway_job_contents",
    metadata,
    sa.Column("job_id", sa.Text(), primary_key=True),
    sa.Column("which", sa.Text(), primary_key=True),
    sa.Column("data", sa.LargeBinary()),
    sa.Column("file", sa.Text()),
)
"""Either ``data`` or the name of a file that holds it."""

lines: Final = sa.Table(
    "headway_job_lines",
    metadata,
    sa.Column("model", sa.Text(), primary_key=True),
    sa.Column("version", sa.Text(), primary_key=True),
    sa.Column("urgency", sa.Integer(), primary_key=True),
    sa.Column("turn", sa.BigInteger(), nullable=False),
    sa.Column("queued", sa.BigInteger(), nullable=False),
    sa.Column("delayed", sa.BigInteger(), nullable=False),
    sa.Column("running", sa.BigInteger(), nullable=False),
)
"""Of each line the turn of the last job claimed, and how many jobs of it are on each shelf."""

callers: Final = sa.Table(
    "headway_job_callers",
    metadata,
    sa.Column("model", sa.Text(), primary_key=True),
    sa.Column("version", sa.Text(), primary_key=True),
    sa.Column("urgency", sa.Integer(), primary_key=True),
    sa.Column("client", sa.Text(), primary_key=True),
    sa.Column("turn", sa.BigInteger(), nullable=False),
)
"""The turn of each caller's last job in a line."""

events: Final = sa.Table(
    "headway_job_events",
    metadata,
    sa.Column("cursor", _KEY, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double(), nullable=False),
    sa.Column("type", sa.Text(), nullable=False),
    sa.Column("model", sa.Text(), nullable=False),
    sa.Column("job_id", sa.Text(), nullable=False),
    sa.Column("version", sa.Text()),
    sa.Column("attempt", sa.Integer(), nullable=False),
    sa.Column("error", sa.Text()),
    _index("ix_headway_job_events_job", "job_id", "cursor"),
    _index("ix_headway_job_events_model", "model", "cursor"),
)

deliveries: Final = sa.Table(
    "headway_job_deliveries",
    metadata,
    sa.Column("delivery_id", sa.Text(), primary_key=True),
    sa.Column("job_id", sa.Text(), nullable=False),
    sa.Column("url", sa.Text(), nullable=False),
    sa.Column("tries", sa.Integer(), nullable=False),
    sa.Column("token", sa.BigInteger(), nullable=False),
    sa.Column("due_at", sa.Double(), nullable=False),
    sa.Column("over_at", sa.Double()),
    sa.Column("reason", sa.Text()),
    _index("ix_headway_job_deliveries_due", "due_at", where="over_at IS NULL"),
    _index("ix_headway_job_deliveries_job", "job_id"),
)
"""``over_at``: when it arrived or was given up."""

counters: Final = sa.Table(
    "headway_job_counters",
    metadata,
    sa.Column("name", sa.Text(), primary_key=True),
    sa.Column("value", sa.BigInteger(), nullable=False),
)
"""Numbers that only grow. Writers come one after the other, so whoever draws later commits later: a reader that has
seen cursor N never sees a smaller one appear."""

EVENT_CURSOR: Final = "event_cursor"
