"""What Alembic runs for every command. The connection comes from ``schema.py``, inside its transaction.

A new step: add ``versions/rNNNN_words.py`` after the newest one and set ``HEAD`` in ``schema.py``.
"""

from __future__ import annotations

from alembic import context

from headway.adapters.sql.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a table by making a new one
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
