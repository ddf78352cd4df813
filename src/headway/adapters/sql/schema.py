"""Bringing a database to the schema of this Headway.

There are two, each with a history of its own (Alembic): :data:`STATE` for deployments and what belongs to them,
:data:`JOBS` for jobs. All due steps run in one transaction that first takes the write lock (in PostgreSQL an advisory
one), so a crash leaves the old schema, and of two processes that open the same database one migrates while the other
waits and then finds nothing to do. Alembic is imported only when a step is due.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from headway.domain.errors import StorageFailed, Unsupported

if TYPE_CHECKING:
    from alembic.config import Config

HEAD: Final = "0006"
"""The newest revision in ``migrations/versions``."""
JOBS_HEAD: Final = "0001"
"""The newest revision in ``migrations/job_versions``."""
_RETRY_S = 0.05
_MIGRATIONS: Final = "headway.adapters.sql:migrations"


@dataclass(frozen=True, slots=True)
class Schema:
    """One history of tables."""

    head: str
    steps: str
    """Folder of ``migrations`` that holds its steps."""
    version_table: str

    def config(self, connection: sa.Connection | None = None) -> Config:
        """What Alembic's commands are given."""
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", _MIGRATIONS)
        config.set_main_option("version_locations", f"{_MIGRATIONS}/{self.steps}")
        config.set_main_option("path_separator", "newline")
        config.attributes["version_table"] = self.version_table
        config.attributes["connection"] = connection
        return config

    def upgrade(self, connection: sa.Connection, where: str) -> None:
        """Take the steps that are due. Raises :class:`Unsupported` for what a newer Headway wrote."""
        from alembic import command
        from alembic.script import ScriptDirectory

        config = self.config(connection)
        if sa.inspect(connection).has_table(self.version_table):
            found = connection.exec_driver_sql(f"SELECT version_num FROM {self.version_table}").scalar()  # noqa: S608
            known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
            if found is not None and found not in known:
                raise Unsupported(
                    f"the database was written by a newer Headway (schema {found}, this one knows {self.head})",
                    where=where,
                    hint="start that version, or use another home",
                )
        command.upgrade(config, "head")


STATE: Final = Schema(HEAD, "versions", "alembic_version")
JOBS: Final = Schema(JOBS_HEAD, "job_versions", "headway_jobs_schema")


def prepare(path: Path, busy_timeout_s: float, schema: Schema = STATE) -> None:
    """Make ``path`` a database of ``schema``, readable by its owner only.

    Raises :class:`Unsupported` for a database of a newer Headway and :class:`StorageFailed` for a file that
    is something else, damaged, or cannot be written. Blocking: call it in a thread.
    """
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            _make_private(path)
            if _revision(path, busy_timeout_s, schema) != schema.head:
                _upgrade(path, busy_timeout_s, schema)
            _write_ahead(path, busy_timeout_s)
            return
        except (OSError, sqlite3.Error, sa.exc.DBAPIError) as error:
            reason = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            # Where waiting could end in a deadlock, as in the change of the journal, SQLite does not wait
            # for another process that opens the same file. Each step may be done again.
            if "locked" in str(reason) and time.monotonic() < deadline:
                time.sleep(_RETRY_S)
                continue
            raise StorageFailed(
                f"the database cannot be opened: {reason}",
                where=str(path),
                hint="is there space, may this user write there, and is the file a Headway database?",
            ) from error


def _make_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # SQLite gives its -wal and -shm files the mode of the database file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        # Never open and close a file that SQLite may have open in this process: closing any descriptor of
        # it drops all POSIX locks that the process holds on it (sqlite.org/howtocorrupt.html, 2.2).
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _revision(path: Path, busy_timeout_s: float, schema: Schema) -> str | None:
    """The revision of the file, None for an empty database."""
    with closing(sqlite3.connect(path, timeout=busy_timeout_s)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return None
        if schema.version_table not in tables:
            raise StorageFailed("this is not a Headway database", where=str(path), hint="choose another home")
        row = connection.execute(f"SELECT version_num FROM {schema.version_table}").fetchone()  # noqa: S608
        return str(row[0]) if row else None


def _write_ahead(path: Path, busy_timeout_s: float) -> None:
    """Switch to the write-ahead log. The file remembers it; done here because it needs the file for itself."""
    with closing(sqlite3.connect(path, timeout=busy_timeout_s)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _upgrade(path: Path, busy_timeout_s: float, schema: Schema) -> None:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": busy_timeout_s, "isolation_level": None}
    )
    # Foreign keys stay unenforced on this connection, as SQLite's rules for rebuilding tables want it.
    sa.event.listen(engine, "begin", begin_immediate)
    try:
        with engine.begin() as connection:
            schema.upgrade(connection, str(path))
    finally:
        engine.dispose()


def begin_immediate(connection: Any) -> None:
    """Take the write lock with the transaction's start: one that reads first could not get it any more later."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
