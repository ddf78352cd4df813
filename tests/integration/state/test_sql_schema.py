"""Making, migrating and refusing the database file."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from headway.adapters.sql import SqlDatabase, SqlDecisionLog, SqlDeploymentStore, SqlEventLog
from headway.adapters.sql.schema import HEAD
from headway.adapters.sql.tables import metadata
from headway.domain.decisions import DecisionRecord
from headway.domain.errors import StorageFailed, Unsupported

pytestmark = pytest.mark.anyio


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


OPENS = """
import asyncio, sys
from pathlib import Path
from headway.adapters.sql import SqlDatabase, SqlEventLog
from headway.domain.events import EventType, NewEvent

async def main():
    for _ in range(5):
        database = SqlDatabase(Path(sys.argv[1]))
        await database.open()
        await SqlEventLog(database).append([NewEvent(1.0, EventType.CONTROL_STARTED)])
        await database.close()

asyncio.run(main())
"""


async def test_a_database_of_a_newer_headway_is_refused_and_not_touched(path: Path, database: SqlDatabase) -> None:
    await database.close()
    other = sqlite3.connect(path)
    other.execute("UPDATE alembic_version SET version_num = '9999'")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(Unsupported, match="newer Headway"):
        await database.open()
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"hello, I am a text file\n" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_a_file_that_is_no_database_is_reported(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StorageFailed) as failure:
        await SqlDatabase(path).open()
    assert failure.value.where == str(path)
    assert path.read_bytes() == content


async def test_a_database_of_something_else_is_refused(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE recipes (name TEXT)")
    other.commit()
    other.close()
    with pytest.raises(StorageFailed, match="not a Headway database"):
        await SqlDatabase(path).open()


async def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed):
        await SqlDatabase(tmp_path / "file" / "headway.db").open()


async def test_a_crash_in_the_middle_of_a_migration_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import op

    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(op, "create_index", fail)
        with pytest.raises(StorageFailed, match="disk full"):
            await SqlDatabase(path).open()
    assert path.stat().st_size == 0
    database = SqlDatabase(path)
    await database.open()
    await database.close()


async def test_the_migrations_make_the_tables_that_the_code_knows(path: Path, database: SqlDatabase) -> None:
    config = Config()
    config.set_main_option("script_location", "headway.adapters.sql:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]

    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == HEAD
        partial = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'uq_tokens_unrevoked_name'")
        assert "WHERE revoked_at IS NULL" in str(partial.scalar())
    engine.dispose()


async def test_a_database_of_the_release_before_keeps_everything(path: Path) -> None:
    older(path, "0001")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE counters SET value = 7 WHERE name = 'resource_version'")
        connection.execute(
            "INSERT INTO deployments VALUES ('iris', 7, 'ready', ?)", (json.dumps({"created_at": 1.0, "replicas": 3}),)
        )
    database = SqlDatabase(path)
    await database.open()
    (deployment,) = await SqlDeploymentStore(database).load_all()
    assert (deployment.name, deployment.replicas, deployment.resource_version) == ("iris", 3, 7)
    assert deployment.scaling is None
    log = SqlDecisionLog(database)
    assert await log.append([DecisionRecord(1.0, "iris", "v1", 1, 2, "cpu", "", False, {})]) == 1
    await database.close()


async def test_decisions_of_the_release_before_are_about_replicas(path: Path) -> None:
    older(path, "0002")
    with closing(sqlite3.connect(path)) as connection, connection:
        values = (1, 5.0, "iris", "v1", 1, 2, "cpu", "more", 0, zlib.compress(b"{}"))
        connection.execute(f"INSERT INTO decisions VALUES ({', '.join('?' * len(values))})", values)
        connection.execute("UPDATE counters SET value = 1 WHERE name = 'decision_cursor'")
    database = SqlDatabase(path)
    await database.open()
    log = SqlDecisionLog(database)
    assert await log.append([DecisionRecord(6.0, "iris", "v1", 0, 8, "jobs", "", False, {}, role="work")]) == 2
    assert [(one.at, one.role) for one in await log.read("iris")] == [(5.0, "serve")]
    assert [(one.at, one.role) for one in await log.read("iris", role="work")] == [(6.0, "work")]
    await database.close()


def older(path: Path, revision: str) -> None:
    """A database as the migrations up to ``revision`` make it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", "headway.adapters.sql:migrations")
    config.set_main_option("path_separator", "os")
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


async def test_many_processes_may_make_and_open_the_same_database(path: Path) -> None:
    others = [run(OPENS, path) for _ in range(3)]
    for other in others:
        await asyncio.to_thread(other.communicate)
        assert other.returncode == 0
    database = SqlDatabase(path)
    await database.open()
    assert await SqlEventLog(database).last_cursor() == 15
    await database.close()


async def test_opening_waits_for_a_reader_who_is_in_the_way_of_the_journal(path: Path, database: SqlDatabase) -> None:
    await database.close()
    reader = sqlite3.connect(path, isolation_level=None)
    try:
        reader.execute("PRAGMA journal_mode = DELETE")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM counters").fetchall()
        impatient = SqlDatabase(path, busy_timeout_s=0.1)
        with pytest.raises(StorageFailed, match="locked"):
            await impatient.open()
        opening = asyncio.create_task(database.open())
        assert await asyncio.wait([opening], timeout=0.2) == (set(), {opening})
    finally:
        reader.close()
    await opening


async def test_opening_a_database_that_is_up_to_date_needs_no_alembic(path: Path, database: SqlDatabase) -> None:
    code = (
        "import asyncio, sys; from pathlib import Path; from headway.adapters.sql import SqlDatabase\n"
        "database = SqlDatabase(Path(sys.argv[1]))\n"
        "async def main(): await database.open(); await database.close()\n"
        "asyncio.run(main()); print('alembic' in sys.modules)"
    )
    out, _ = await asyncio.to_thread(run(code, path).communicate)
    assert out.strip() == "False"
