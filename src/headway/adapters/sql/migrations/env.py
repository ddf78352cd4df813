"""What Alembic runs for every command. The connection comes from ``schema.py``, inside its transaction.

A new step: add ``versions/rNNNN_words.py`` after the newest one and set ``HEAD`` in ``schema.py``; for jobs, in
``job_versions`` and ``JOBS_HEAD``.
"""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes.get("version_table", "alembic_version"),
    render_as_batch=True,  # SQLite changes a table by making a new one
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
