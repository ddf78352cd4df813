"""Bringing the database file to the schema of this Headway.

The schema's history stands in ``migrations/versions`` (Alembic). All due steps run in one transaction
that first takes the write lock, so a crash leaves the old schema, and of two processes that open the same
file one migrates while the other waits and then finds nothing to do. Alembic is imported only when
a step is due.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from headway.domain.errors import StorageFailed, Unsupported

HEAD: Final = "0002"
"""The newest revision in ``migrations/versions``."""
_RETRY_S = 0.05


def prepare(path: Path, busy_timeout_s: float) -> None:
    """Make ``path`` a database of this schema, readable by its owner only.

    Raises :class:`Unsupported` for a database of a newer Headway and :class:`StorageFailed` for a file that
    is something else, damaged, or cannot be written. Blocking: call it in a thread.
    """
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            _make_private(path)
            if _revision(path, busy_timeout_s) != HEAD:
                _upgrade(path, busy_timeout_s)
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


def _revision(path: Path, busy_timeout_s: float) -> str | None:
    """The revision of the file, None for an empty database."""
    with closing(sqlite3.connect(path, timeout=busy_timeout_s)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return None
        if "alembic_version" not in tables:
            raise StorageFailed("this is not a Headway database", where=str(path), hint="choose another home")
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None


def _write_ahead(path: Path, busy_timeout_s: float) -> None:
    """Switch to the write-ahead log. The file remembers it; done here because it needs the file for itself."""
    with closing(sqlite3.connect(path, timeout=busy_timeout_s)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _upgrade(path: Path, busy_timeout_s: float) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "headway.adapters.sql:migrations")
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}

    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": busy_timeout_s, "isolation_level": None}
    )
    # Foreign keys stay unenforced on this connection, as SQLite's rules for rebuilding tables want it.
    sa.event.listen(engine, "begin", begin_immediate)
    try:
        with engine.begin() as connection:
            if sa.inspect(connection).has_table("alembic_version"):
                found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
                if found is not None and found not in known:
                    raise Unsupported(
                        f"the database was written by a newer Headway (schema {found}, this one knows {HEAD})",
                        where=str(path),
                        hint="start that version, or use another home",
                    )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def begin_immediate(connection: Any) -> None:
    """Take the write lock with the transaction's start: one that reads first could not get it any more later."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
